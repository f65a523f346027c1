// Parameters on the device, a decoder over them, a generator over the decoder.
#include "duologue/chat/speaker.h"

#include <utility>

namespace duologue {

Speaker::Speaker(SavedModel saved, std::unique_ptr<Backend> backend)
    : backend_(std::move(backend)),
      card_(saved.card),
      vocabulary_(std::move(saved.vocabulary)),
      model_(make_transformer(card_, vocabulary_)),
      memory_(backend_->allocate(model_.parameters().elements() * size_of(DataType::kF32))),
      weights_(make_vector(memory_.data(), DataType::kF32, model_.parameters().elements())) {
    backend_->upload(weights_, saved.values.data());
    model_.prepare(*backend_);
    decoder_.emplace(model_, *backend_, weights_, card_.max_context_tokens, card_.max_reply_tokens);
    generator_.emplace(next_word_model(*decoder_), vocabulary_, card_.max_reply_tokens);
}

}  // namespace duologue
