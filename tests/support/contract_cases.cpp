// The back ends that the contract suite runs on: one line each.
#include "backend/cpu/cpu_backend.h"
#include "support/contract.h"
#include "support/reference_backend.h"

namespace duologue {

namespace {

std::string name_of_case(cpu::MatmulRoute route) {
    switch (route) {
        case cpu::MatmulRoute::kAvx2:
            return "cpu_avx2";
        case cpu::MatmulRoute::kWideOnAvx2:
            return "cpu_wide_tiles";
        case cpu::MatmulRoute::kPairsOnAvx2:
            return "cpu_pairs";
        case cpu::MatmulRoute::kAvx512:
            return "cpu_avx512";
        case cpu::MatmulRoute::kAvx512Bf16:
            return "cpu_avx512_bf16";
        case cpu::MatmulRoute::kOneDnn:
            return "cpu_onednn";
        case cpu::MatmulRoute::kOneDnnMixed:
            return "cpu_onednn_mixed";
    }
    fail(ErrorCode::kInternal, "a case for unknown route {}", static_cast<int>(route));
}

// The CPU back end with each way to multiply matrices that this processor can take, besides the one it takes by itself.
void add_other_cpu_routes(std::vector<ContractCase>& cases, DataType type) {
    const cpu::CpuOptions best = cpu::best_options(1);
    const cpu::MatmulRoute own_choice = type == DataType::kBf16 ? best.bf16_route : best.f32_route;
    for (const cpu::MatmulRoute route : cpu::kAllRoutes) {
        if (route == own_choice || !cpu::can_take(route, type)) continue;
        const auto make = [route, type](int threads) {
            cpu::CpuOptions options = cpu::best_options(threads);
            (type == DataType::kBf16 ? options.bf16_route : options.f32_route) = route;
            return cpu::make_cpu_backend(options);
        };
        cases.push_back({.name = name_of_case(route), .make = make, .type = type});
    }
}

}  // namespace

std::vector<ContractCase> contract_cases() {
    std::vector<ContractCase> cases;
    for (const DataType type : {DataType::kF32, DataType::kBf16}) {
        cases.push_back(
            {.name = "reference", .make = [](int /*threads*/) { return make_reference_backend(); }, .type = type});
        cases.push_back({.name = "cpu", .make = [](int threads) { return make_cpu_backend(threads); }, .type = type});
        add_other_cpu_routes(cases, type);
    }
    return cases;
}

}  // namespace duologue
