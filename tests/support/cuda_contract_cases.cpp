// The contract suite's cases on a GPU. Algorithms are chosen by shape alone, so that two instances agree in every bit.
#include "duologue/backend/cuda_backend.h"
#include "support/contract.h"

namespace duologue {

std::vector<ContractCase> contract_cases() {
    std::vector<ContractCase> cases;
    for (const DataType type : {DataType::kF32, DataType::kBf16}) {
        cases.push_back(
            {.name = "cuda",
             .make = [](int /*threads*/) { return make_cuda_backend({.matmul = MatmulChoice::kHeuristic}); },
             .type = type});
    }
    return cases;
}

}  // namespace duologue
