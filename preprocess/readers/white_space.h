// What both the cutting of records and the guessing of a format pass over: white space and a byte order mark.
#pragma once

#include <string_view>

namespace duologue::preprocess {

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
constexpr std::string_view kWhiteSpace = " \t\r\n\v\f";

inline bool is_blank(std::string_view text) { return text.find_first_not_of(kWhiteSpace) == std::string_view::npos; }

}  // namespace duologue::preprocess
