// Guessing from its beginning which format a file has.
#include <algorithm>
#include <span>

#include "readers/input_stream.h"
#include "readers/json_cursor.h"
#include "readers/record_reader.h"
#include "readers/white_space.h"

namespace duologue::preprocess {

namespace {

std::string beginning_of(InputStream& input) {
    std::string head(64 * 1024, '\0');
    std::size_t filled = 0;
    for (;;) {
        const std::size_t count = input.read(std::span<char>(head).subspan(filled));
        filled += count;
        if (count == 0 || filled == head.size()) break;
    }
    head.resize(filled);
    if (head.starts_with(kByteOrderMark)) head = head.substr(kByteOrderMark.size());
    return head;
}

/// Whether `line` is one whole object with a member that only JSON-lines records have.
bool is_json_record(std::string_view line) {
    JsonCursor cursor(line);
    bool telling = false;
    const bool whole = cursor.object([&](std::string_view key) {
        telling = telling || key == "turns" || key == "messages";
        return cursor.skip_value();
    });
    return whole && telling && cursor.at_end();
}

/// Whether `head` begins an object whose first member is an object.
bool is_object_of_objects(std::string_view head) {
    JsonCursor cursor(head);
    std::string key;
    return cursor.take('{') && cursor.string(key) && cursor.take(':') && cursor.peek() == '{';
}

/// Whether most lines of `head` that are not blank have the mark: a text may speak of it.
bool marks_ends_of_utterances(std::string_view head) {
    std::int64_t lines = 0;
    std::int64_t marked = 0;
    while (!head.empty()) {
        const std::string_view line = head.substr(0, head.find('\n'));
        head.remove_prefix(std::min(line.size() + 1, head.size()));
        if (is_blank(line)) continue;
        ++lines;
        if (line.find(kEndOfUtteranceMark) != std::string_view::npos) ++marked;
    }
    return 2 * marked > lines;
}

/// Whether `head` begins an array of objects, as many collections are published. As text it would be nonsense.
bool is_array_of_objects(std::string_view head) {
    JsonCursor cursor(head);
    return cursor.take('[') && cursor.peek() == '{';
}

Format format_of(std::string_view head) {
    const std::size_t first = head.find_first_not_of(kWhiteSpace);
    if (first != std::string_view::npos && head[first] == '{') {
        const std::string_view line = head.substr(first, head.find('\n', first) - first);
        if (is_json_record(line)) return Format::kJsonLines;
        return is_object_of_objects(head) ? Format::kTopicalChat : Format::kJsonLines;
    }
    return marks_ends_of_utterances(head) ? Format::kEndOfUtterance : Format::kText;
}

}  // namespace

DetectedFormat detect_format(const std::string& path) {
    const std::unique_ptr<InputStream> input = open_input(path);
    const std::string head = beginning_of(*input);
    return {.format = format_of(head),
            .compression = std::string(input->compression()),
            .problem = is_array_of_objects(head) ? "it begins as a JSON array, but one conversation a line is read; "
                                                   "`jq -c '.[]'` makes such lines of it"
                                                 : ""};
}

}  // namespace duologue::preprocess
