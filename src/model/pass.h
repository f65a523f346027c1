// Pass: what every layer is handed on its way forward or backward.
#pragma once

#include <cstddef>
#include <cstdint>

#include "duologue/backend/backend.h"
#include "duologue/core/arena.h"
#include "duologue/model/parameters.h"

namespace duologue {

/// Whether dropout is on and what the backward pass needs is kept.
enum class Mode : std::uint8_t { kTrain, kEvaluate };

/// A parameter table over one flat buffer: values or gradients.
class ParameterViews {
   public:
    ParameterViews(const ParameterTable& table, const Tensor& flat) : table_(&table), flat_(flat) {}
    [[nodiscard]] Tensor operator[](std::size_t entry) const { return table_->view(flat_, entry); }
    [[nodiscard]] DataType type() const { return flat_.type; }

   private:
    const ParameterTable* table_;
    Tensor flat_;
};

/// Outputs and everything saved for the backward pass are allocated in `arena` and live as long as the caller's scope.
struct ForwardPass {
    Backend& backend;
    Arena& arena;
    ParameterViews weights;
    Mode mode;

    /// Uninitialised activations [rows, columns].
    [[nodiscard]] Tensor activations(std::int64_t rows, std::int64_t columns) const {
        return arena.allocate(weights.type(), rows, columns);
    }
    /// One f32 per row for the backward pass; absent when there will be none.
    [[nodiscard]] Tensor statistics(std::int64_t rows, std::int64_t columns) const {
        return mode == Mode::kTrain ? arena.allocate(DataType::kF32, rows, columns) : Tensor{};
    }
    [[nodiscard]] Dropout active(const Dropout& dropout) const {
        return mode == Mode::kTrain ? dropout : Dropout{.probability = 0.0F, .site = dropout.site};
    }
};

/// `arena` is scratch: each layer gives back what it takes. Gradients are accumulated into.
struct BackwardPass {
    Backend& backend;
    Arena& arena;
    ParameterViews weights;
    ParameterViews gradients;

    [[nodiscard]] Tensor activations(std::int64_t rows, std::int64_t columns) const {
        return arena.allocate(weights.type(), rows, columns);
    }
};

}  // namespace duologue
