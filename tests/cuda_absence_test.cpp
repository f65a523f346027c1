// A GPU that is not there is a clear error, in every build and on every machine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "duologue/backend/cuda_backend.h"
#include "duologue/core/error.h"

namespace duologue {
namespace {

TEST(CudaBackend, AGpuThatIsNotThereIsADeviceErrorThatSaysWhatToDo) {
    const int devices = cuda_device_count();
    ASSERT_GE(devices, 0);
    try {
        (void)make_cuda_backend({.device = devices});
        FAIL() << "GPU " << devices << " is there";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kDevice);
        EXPECT_THAT(error.what(), testing::HasSubstr("device.kind=cpu"));
    }
}

}  // namespace
}  // namespace duologue
