// The communicator of a world of one: every sum is already there.
#include <cstring>

#include "duologue/comm/communicator.h"

namespace duologue {

namespace {

// The memory may be a device's: nothing is touched where input and output are the same, and they differ only on the
// host.
void copy_unless_same(const Tensor& to, const Tensor& from) {
    if (to.data != from.data) std::memmove(to.data, from.data, static_cast<std::size_t>(from.bytes()));
}

class SingleCommunicator final : public Communicator {
   public:
    [[nodiscard]] int rank() const override { return 0; }
    [[nodiscard]] int size() const override { return 1; }
    void all_reduce_sum(const Tensor& /*x*/, const char* /*what*/) override {}
    void reduce_scatter_sum(const Tensor& piece, const Tensor& x, const char* /*what*/) override {
        copy_unless_same(piece, x);
    }
    void all_gather(const Tensor& x, const Tensor& piece, const char* /*what*/) override { copy_unless_same(x, piece); }
    void broadcast(const Tensor& /*x*/, int /*root*/, const char* /*what*/) override {}
    void barrier() override {}
    void join() override {}
    void confirm() override {}
};

}  // namespace

std::unique_ptr<Communicator> make_single_communicator() { return std::make_unique<SingleCommunicator>(); }

}  // namespace duologue
