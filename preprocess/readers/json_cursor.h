// JsonCursor: a strict pull reader over one JSON text, fast because it builds nothing.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace duologue::preprocess {

/// Every function skips white space first and returns false where the text is not what is asked for (RFC 8259); the
/// caller then gives up and asks a full parser for the reason. The text must be valid UTF-8.
class JsonCursor {
   public:
    explicit JsonCursor(std::string_view text) : text_(text) {}

    /// The next character, which stays; '\0' at the end.
    [[nodiscard]] char peek();
    /// Takes `expected` if it is next.
    [[nodiscard]] bool take(char expected);
    /// Takes a string and decodes its escapes into `out`.
    [[nodiscard]] bool string(std::string& out);
    /// Takes a number and gives its text.
    [[nodiscard]] bool number(std::string& out);
    /// Takes any one value.
    [[nodiscard]] bool skip_value() { return skip_value(0); }
    /// Nothing but white space is left.
    [[nodiscard]] bool at_end() { return peek() == '\0' && position_ == text_.size(); }

    /// Takes an object; calls `member(key)` with the cursor before each value, which it must take.
    template <class Member>
    [[nodiscard]] bool object(Member member) {
        if (!take('{')) return false;
        if (take('}')) return true;
        std::string key;
        do {
            if (!string(key) || !take(':') || !member(std::string_view(key))) return false;
        } while (take(','));
        return take('}');
    }
    /// Takes an array; calls `element()` with the cursor before each value, which it must take.
    template <class Element>
    [[nodiscard]] bool array(Element element) {
        if (!take('[')) return false;
        if (take(']')) return true;
        do {
            if (!element()) return false;
        } while (take(','));
        return take(']');
    }

   private:
    [[nodiscard]] bool skip_value(int depth);
    [[nodiscard]] bool skip_literal(std::string_view literal);
    [[nodiscard]] bool skip_number();
    [[nodiscard]] bool skip_digits();
    [[nodiscard]] bool escape(std::string& out);
    [[nodiscard]] bool four_hex(unsigned& value);

    std::string_view text_;
    std::size_t position_ = 0;
    std::string skipped_;
};

}  // namespace duologue::preprocess
