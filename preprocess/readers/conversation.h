// Conversation: the turns of one conversation as they were read, in one buffer that is used again.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace duologue::preprocess {

class Conversation {
   public:
    static constexpr int kUnknownSpeaker = -1;

    void clear() {
        text_.clear();
        ends_.clear();
        speakers_.clear();
    }
    void add_turn(std::string_view text, int speaker) {
        text_ += text;
        ends_.push_back(text_.size());
        speakers_.push_back(speaker);
    }
    [[nodiscard]] std::size_t turns() const { return ends_.size(); }
    [[nodiscard]] std::string_view turn(std::size_t i) const {
        const std::size_t begin = i == 0 ? 0 : ends_[i - 1];
        return std::string_view(text_).substr(begin, ends_[i] - begin);
    }
    /// 0 for the one who speaks first, 1 for the next one met, ...; kUnknownSpeaker where the input does not say.
    [[nodiscard]] int speaker(std::size_t i) const { return speakers_[i]; }
    void set_speaker(std::size_t i, int speaker) { speakers_[i] = speaker; }

   private:
    std::string text_;
    std::vector<std::size_t> ends_;
    std::vector<int> speakers_;
};

}  // namespace duologue::preprocess
