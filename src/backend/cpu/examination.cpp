// What the CPU back end finds: instruction sets, oneDNN, and the measured rate of each type's matmul.
#include "duologue/backend/examination.h"

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/onednn.h"
#include "duologue/backend/matmul_rate.h"

namespace duologue {

namespace {

std::string instruction_sets() {
    std::string names;
    const auto add = [&names](const char* name, bool has) {
        if (has) names += (names.empty() ? "" : ", ") + std::string(name);
    };
    add("AVX2", __builtin_cpu_supports("avx2") > 0);
    add("FMA", __builtin_cpu_supports("fma") > 0);
    add("AVX-512", cpu::can_take(cpu::MatmulRoute::kAvx512, DataType::kF32));
    add("AVX512-BF16", __builtin_cpu_supports("avx512bf16") > 0);
    return names.empty() ? "none that is used" : names;
}

double measure(const cpu::CpuOptions& options, DataType type) {
    return measure_matmul_flops_per_second(*cpu::make_cpu_backend(options), type);
}

}  // namespace

Findings examine_cpu(int threads) {
    if (!cpu::can_take(cpu::MatmulRoute::kAvx2, DataType::kF32)) {
        return {wrong(ErrorCode::kDevice, "processor", fmt::format("instruction sets: {}", instruction_sets()),
                      "the cpu back end needs AVX2 and FMA (x86-64-v3): use a newer processor, or a machine type that "
                      "does not hide them")};
    }
    const cpu::CpuOptions options = cpu::best_options(threads);
    const double f32 = measure(options, DataType::kF32);
    const double bf16 = measure(options, DataType::kBf16);
    const auto rate_text = [](cpu::MatmulRoute route, double rate) {
        return fmt::format("{:.0f} GFLOP/s by {}", rate * 1e-9, cpu::name_of(route));
    };
    Findings findings{
        fine("processor", "instruction sets: " + instruction_sets()),
        compare_versions("oneDNN", cpu::OneDnnMatmul::compiled_version(), cpu::OneDnnMatmul::running_version()),
        fine("f32 matmul", rate_text(options.f32_route, f32)),
        fine("bf16 matmul", rate_text(options.bf16_route, bf16))};
    constexpr double kNoticeable = 0.9;
    if (bf16 < kNoticeable * f32) {
        findings.back() = doubtful("bf16 matmul", rate_text(options.bf16_route, bf16),
                                   "slower than f32 on this processor: train with train.precision=f32");
    }
    return findings;
}

}  // namespace duologue
