// Speaker: a saved model made ready to reply on a device.
#pragma once

#include <memory>
#include <optional>

#include "duologue/backend/backend.h"
#include "duologue/chat/generator.h"
#include "duologue/chat/saved_model.h"

namespace duologue {

class Speaker {
   public:
    /// Moves the parameters to the device; kDevice where they do not fit.
    Speaker(SavedModel saved, std::unique_ptr<Backend> backend);

    [[nodiscard]] Generator& generator() { return *generator_; }
    [[nodiscard]] Backend& backend() { return *backend_; }
    [[nodiscard]] const Transformer& model() const { return model_; }
    [[nodiscard]] const Tensor& weights() const { return weights_; }  ///< f32 [elements()]
    [[nodiscard]] const Vocabulary& vocabulary() const { return vocabulary_; }
    [[nodiscard]] const ModelCard& card() const { return card_; }

   private:
    std::unique_ptr<Backend> backend_;
    ModelCard card_;
    Vocabulary vocabulary_;
    Transformer model_;
    DeviceBuffer memory_;
    Tensor weights_;
    std::optional<IncrementalDecoder> decoder_;
    std::optional<Generator> generator_;
};

}  // namespace duologue
