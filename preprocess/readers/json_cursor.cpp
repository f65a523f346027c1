// JSON strings, numbers and skipping (RFC 8259).
#include "readers/json_cursor.h"

#include <array>

namespace duologue::preprocess {

namespace {

constexpr int kMaxDepth = 100;

/// Characters that may stand for themselves in a string.
constexpr auto kPlain = [] {
    std::array<bool, 256> plain{};
    for (std::size_t i = 0x20; i < plain.size(); ++i) plain[i] = i != '"' && i != '\\';
    return plain;
}();

void append_utf8(unsigned point, std::string& out) {
    const auto trail = [&](unsigned shift) { out += static_cast<char>(0x80U | ((point >> shift) & 0x3fU)); };
    if (point < 0x80) {
        out += static_cast<char>(point);
    } else if (point < 0x800) {
        out += static_cast<char>(0xc0U | (point >> 6));
        trail(0);
    } else if (point < 0x10000) {
        out += static_cast<char>(0xe0U | (point >> 12));
        trail(6);
        trail(0);
    } else {
        out += static_cast<char>(0xf0U | (point >> 18));
        trail(12);
        trail(6);
        trail(0);
    }
}

}  // namespace

char JsonCursor::peek() {
    while (position_ < text_.size()) {
        const char c = text_[position_];
        if (c != ' ' && c != '\n' && c != '\t' && c != '\r') return c;
        ++position_;
    }
    return '\0';
}

bool JsonCursor::take(char expected) {
    if (peek() != expected || position_ == text_.size()) return false;
    ++position_;
    return true;
}

bool JsonCursor::string(std::string& out) {
    out.clear();
    if (!take('"')) return false;
    for (;;) {
        const std::size_t start = position_;
        while (position_ < text_.size() && kPlain[static_cast<unsigned char>(text_[position_])]) ++position_;
        out.append(text_, start, position_ - start);
        if (position_ == text_.size()) return false;
        const char c = text_[position_++];
        if (c == '"') return true;
        if (c != '\\' || !escape(out)) return false;
    }
}

bool JsonCursor::escape(std::string& out) {
    if (position_ == text_.size()) return false;
    const char c = text_[position_++];
    constexpr std::string_view kNames = "\"\\/bfnrt";
    constexpr std::string_view kValues = "\"\\/\b\f\n\r\t";
    if (const auto at = kNames.find(c); at != std::string_view::npos) {
        out += kValues[at];
        return true;
    }
    unsigned point = 0;
    if (c != 'u' || !four_hex(point)) return false;
    if (point >= 0xd800 && point < 0xdc00) {
        unsigned low = 0;
        if (text_.substr(position_, 2) != "\\u") return false;
        position_ += 2;
        if (!four_hex(low) || low < 0xdc00 || low > 0xdfff) return false;
        point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
    } else if (point >= 0xdc00 && point <= 0xdfff) {
        return false;
    }
    append_utf8(point, out);
    return true;
}

bool JsonCursor::four_hex(unsigned& value) {
    if (text_.size() - position_ < 4) return false;
    value = 0;
    for (int i = 0; i < 4; ++i) {
        const char c = text_[position_++];
        unsigned digit = 0;
        if (c >= '0' && c <= '9') {
            digit = static_cast<unsigned>(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            digit = static_cast<unsigned>(c - 'a') + 10;
        } else if (c >= 'A' && c <= 'F') {
            digit = static_cast<unsigned>(c - 'A') + 10;
        } else {
            return false;
        }
        value = value * 16 + digit;
    }
    return true;
}

bool JsonCursor::number(std::string& out) {
    (void)peek();
    const std::size_t start = position_;
    if (!skip_number()) return false;
    out.assign(text_, start, position_ - start);
    return true;
}

bool JsonCursor::skip_value(int depth) {
    if (depth > kMaxDepth) return false;
    switch (peek()) {
        case '"':
            return string(skipped_);
        case '{':
            return object([&](std::string_view) { return skip_value(depth + 1); });
        case '[':
            return array([&] { return skip_value(depth + 1); });
        case 't':
            return skip_literal("true");
        case 'f':
            return skip_literal("false");
        case 'n':
            return skip_literal("null");
        default:
            return skip_number();
    }
}

bool JsonCursor::skip_literal(std::string_view literal) {
    if (text_.substr(position_, literal.size()) != literal) return false;
    position_ += literal.size();
    return true;
}

bool JsonCursor::skip_digits() {
    const std::size_t start = position_;
    while (position_ < text_.size() && text_[position_] >= '0' && text_[position_] <= '9') ++position_;
    return position_ > start;
}

bool JsonCursor::skip_number() {
    const auto next_is = [&](char c) { return position_ < text_.size() && text_[position_] == c; };
    if (next_is('-')) ++position_;
    if (next_is('0')) {
        ++position_;
    } else if (!skip_digits()) {
        return false;
    }
    if (next_is('.')) {
        ++position_;
        if (!skip_digits()) return false;
    }
    if (next_is('e') || next_is('E')) {
        ++position_;
        if (next_is('+') || next_is('-')) ++position_;
        if (!skip_digits()) return false;
    }
    return true;
}

}  // namespace duologue::preprocess
