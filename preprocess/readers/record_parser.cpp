// The record formats: JSON with turns or messages, Topical-Chat members, paragraphs, __eou__ lines.
#include "readers/record_parser.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "data/utf8.h"
#include "duologue/core/error.h"
#include "readers/json_cursor.h"

namespace duologue::preprocess {

namespace {

constexpr int kMaxSpeakers = 255;

/// Numbers speakers in the order in which they are met.
class Speakers {
   public:
    int number_of(std::string_view name) {
        const auto number = std::find(names_.begin(), names_.end(), name) - names_.begin();
        if (number == std::ssize(names_)) names_.emplace_back(name);
        return static_cast<int>(number);
    }
    [[nodiscard]] bool too_many() const { return names_.size() > kMaxSpeakers; }

   private:
    std::vector<std::string> names_;
};

/// One JSON record on its way into a conversation. The functions return false where the text is not JSON or not what
/// is expected; in the second case `reason` says so.
struct JsonRecord {
    JsonCursor cursor;
    Conversation& conversation;
    std::string reason;
    Speakers speakers;
    std::string text;

    bool wrong(std::string why) {
        reason = std::move(why);
        return false;
    }
    bool expect_string(std::string_view what) {
        if (cursor.peek() != '"') return wrong(fmt::format("{} is not a string", what));
        return cursor.string(text);
    }
    bool expect_array(std::string_view what) {
        return cursor.peek() == '[' || wrong(fmt::format("\"{}\" is not an array", what));
    }

    bool read_turns() {
        return expect_array("turns") && cursor.array([&] {
            if (!expect_string("an element of \"turns\"")) return false;
            conversation.add_turn(text, Conversation::kUnknownSpeaker);
            return true;
        });
    }

    bool read_speakers(std::vector<int>& numbers) {
        return expect_array("speakers") && cursor.array([&] {
            const char c = cursor.peek();
            const bool is_number = c == '-' || (c >= '0' && c <= '9');
            if (is_number ? !cursor.number(text) : !expect_string("an element of \"speakers\"")) return false;
            numbers.push_back(speakers.number_of(text));
            return true;
        });
    }

    /// One {"<who>": name, "<what>": text, ...}; turns of the role "system" are instructions, nobody's words.
    bool read_message(std::string_view who, std::string_view what) {
        std::string name;
        std::string said;
        bool has_name = false;
        bool has_text = false;
        if (cursor.peek() != '{') return wrong("a message is not an object");
        const bool sound = cursor.object([&](std::string_view key) {
            if (key != who && key != what) return cursor.skip_value();
            const bool is_name = key == who;
            if (!expect_string(fmt::format("\"{}\"", key))) return false;
            (is_name ? name : said) = text;
            (is_name ? has_name : has_text) = true;
            return true;
        });
        if (!sound) return false;
        if (!has_name || !has_text) return wrong(fmt::format("a message lacks \"{}\"", has_name ? what : who));
        if (who != "role" || name != "system") conversation.add_turn(said, speakers.number_of(name));
        return true;
    }

    bool read_messages(std::string_view list, std::string_view who, std::string_view what) {
        return expect_array(list) && cursor.array([&] { return read_message(who, what); });
    }

    bool assign_speakers(const std::vector<int>& numbers) {
        if (numbers.size() != conversation.turns()) {
            return wrong(fmt::format("{} speakers for {} turns", numbers.size(), conversation.turns()));
        }
        for (std::size_t i = 0; i < numbers.size(); ++i) conversation.set_speaker(i, numbers[i]);
        return true;
    }

    bool read_line() {
        bool has_turns = false;
        bool has_speakers = false;
        std::vector<int> numbers;
        if (cursor.peek() != '{') return wrong("the record is not a JSON object");
        const bool sound = cursor.object([&](std::string_view key) {
            if (key == "speakers") {
                has_speakers = true;
                return read_speakers(numbers);
            }
            if (key != "turns" && key != "messages") return cursor.skip_value();
            if (has_turns) return wrong("\"turns\" or \"messages\" stand in it more than once");
            has_turns = true;
            return key == "turns" ? read_turns() : read_messages("messages", "role", "content");
        });
        if (!sound || !cursor.at_end()) return false;
        if (!has_turns) return wrong("the record has neither \"turns\" nor \"messages\"");
        return !has_speakers || assign_speakers(numbers);
    }

    bool read_member() {
        bool has_content = false;
        const bool sound = cursor.object([&](std::string_view) {
            if (cursor.peek() != '{') return wrong("the conversation is not an object");
            return cursor.object([&](std::string_view key) {
                if (key != "content") return cursor.skip_value();
                has_content = true;
                return read_messages("content", "agent", "message");
            });
        });
        if (!sound || !cursor.at_end()) return false;
        return has_content || wrong("the conversation has no \"content\"");
    }
};

/// What a record of the format looks like.
std::string_view expected_of(Format format) {
    return format == Format::kJsonLines
               ? R"(each line has to be one JSON object like {"turns": ["hello", "hi there"]}; plain text is read with )"
                 "--format text"
               : R"(each conversation has to be a JSON object with "content", as Topical-Chat's are)";
}

/// Where a text stops being JSON, and what was expected.
RecordProblem json_problem(Format format, const RawRecord& record) {
    try {
        const auto unused = nlohmann::json::parse(record.text);
    } catch (const nlohmann::json::parse_error& problem) {
        const auto byte = static_cast<std::ptrdiff_t>(std::min(problem.byte, record.text.size()));
        return {.line = record.line + std::count(record.text.begin(), record.text.begin() + byte, '\n'),
                .reason = fmt::format("not JSON from byte {} of the record on; {}", problem.byte, expected_of(format))};
    }
    return {.line = record.line, .reason = "the JSON is nested too deeply or holds an unpaired surrogate"};
}

std::optional<RecordProblem> parse_json(Format format, const RawRecord& record, Conversation& conversation) {
    JsonRecord json{
        .cursor = JsonCursor(record.text), .conversation = conversation, .reason = {}, .speakers = {}, .text = {}};
    const bool sound = format == Format::kJsonLines ? json.read_line() : json.read_member();
    if (sound && !json.speakers.too_many()) return std::nullopt;
    if (sound) json.reason = fmt::format("more than {} speakers", kMaxSpeakers);
    const bool is_json = !json.reason.empty() && nlohmann::json::accept(record.text);
    if (is_json) return RecordProblem{.line = record.line, .reason = json.reason};
    return json_problem(format, record);
}

void parse_separated(std::string_view text, std::string_view separator, Conversation& conversation) {
    while (!text.empty()) {
        const std::size_t end = std::min(text.find(separator), text.size());
        conversation.add_turn(text.substr(0, end), Conversation::kUnknownSpeaker);
        text.remove_prefix(std::min(end + separator.size(), text.size()));
        if (text.find_first_not_of(" \t\n") == std::string_view::npos) return;
    }
}

std::optional<RecordProblem> encoding_problem(const RawRecord& record) {
    const auto at_byte = [&](std::size_t byte, std::string_view reason) {
        const std::int64_t lines_before = std::ranges::count(std::string_view(record.text).substr(0, byte), '\n');
        return RecordProblem{.line = record.line + lines_before, .reason = fmt::format(fmt::runtime(reason), byte + 1)};
    };
    // Before the other, because archives and other binary files have both.
    if (const std::size_t nul = record.text.find('\0'); nul != std::string::npos) {
        return at_byte(nul, "is no text: byte {} of the record is NUL; unpack an archive, convert UTF-16 to UTF-8");
    }
    if (const std::int64_t invalid = first_invalid_utf8(record.text); invalid >= 0) {
        return at_byte(static_cast<std::size_t>(invalid),
                       "invalid UTF-8 at byte {} of the record; convert the file to UTF-8");
    }
    return std::nullopt;
}

}  // namespace

std::optional<RecordProblem> parse_record(Format format, const RawRecord& record, Conversation& conversation) {
    conversation.clear();
    if (!record.problem.empty()) return RecordProblem{.line = record.line, .reason = record.problem};
    if (std::optional<RecordProblem> problem = encoding_problem(record)) return problem;
    if (format == Format::kText) {
        parse_separated(record.text, "\n", conversation);
        return std::nullopt;
    }
    if (format == Format::kEndOfUtterance) {
        parse_separated(record.text, kEndOfUtteranceMark, conversation);
        return std::nullopt;
    }
    return parse_json(format, record, conversation);
}

}  // namespace duologue::preprocess
