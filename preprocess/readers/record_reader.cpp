// Lines, paragraphs and members of one big object.
#include "readers/record_reader.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "duologue/core/error.h"
#include "readers/input_stream.h"
#include "readers/white_space.h"

namespace duologue::preprocess {

namespace {

std::string too_long() { return fmt::format("the record is longer than {} MiB", RecordReader::kMaxRecordBytes >> 20); }

/// The bytes of an input in pieces, without a byte order mark, counting lines.
class Bytes {
   public:
    explicit Bytes(const std::string& path) : input_(open_input(path)), piece_(256 * 1024) {
        while (filled_ < kByteOrderMark.size() && fill()) continue;
        if (std::string_view(piece_.data(), filled_).starts_with(kByteOrderMark)) position_ = kByteOrderMark.size();
    }
    /// What is there and not yet taken; empty at the end.
    [[nodiscard]] std::string_view available() {
        if (position_ == filled_) {
            position_ = 0;
            filled_ = 0;
            fill();
        }
        return {piece_.data() + position_, filled_ - position_};
    }
    void take(std::size_t count) { position_ += count; }
    [[nodiscard]] const InputStream& input() const { return *input_; }

   private:
    bool fill() {
        const std::size_t count = input_->read(std::span<char>(piece_).subspan(filled_));
        filled_ += count;
        return count > 0;
    }

    std::unique_ptr<InputStream> input_;
    std::vector<char> piece_;
    std::size_t position_ = 0;
    std::size_t filled_ = 0;
};

/// Lines without their ends. A line beyond the limit is cut there and said to be `too_long`.
class Lines {
   public:
    explicit Lines(const std::string& path) : bytes_(path) {}
    [[nodiscard]] bool next(std::string& line) {
        line.clear();
        too_long_ = false;
        std::string_view piece = bytes_.available();
        if (piece.empty()) return false;
        ++number_;
        for (; !piece.empty(); piece = bytes_.available()) {
            const std::size_t end = piece.find('\n');
            append(piece.substr(0, end), line);
            bytes_.take(std::min(end, piece.size() - 1) + 1);
            if (end != std::string_view::npos) break;
        }
        if (line.ends_with('\r')) line.pop_back();
        return true;
    }
    [[nodiscard]] std::int64_t number() const { return number_; }
    [[nodiscard]] bool too_long() const { return too_long_; }
    [[nodiscard]] const InputStream& input() const { return bytes_.input(); }

   private:
    void append(std::string_view part, std::string& line) {
        too_long_ = too_long_ || line.size() + part.size() > RecordReader::kMaxRecordBytes;
        if (!too_long_) line += part;
    }

    Bytes bytes_;
    std::int64_t number_ = 0;
    bool too_long_ = false;
};

class LineRecords : public RecordReader {
   public:
    explicit LineRecords(const std::string& path) : lines_(path) {}
    bool next(RawRecord& record) override {
        do {
            if (!lines_.next(record.text)) return false;
        } while (is_blank(record.text) && !lines_.too_long());
        record.line = lines_.number();
        record.problem = lines_.too_long() ? too_long() : "";
        return true;
    }
    [[nodiscard]] std::int64_t bytes_taken() const override { return lines_.input().bytes_taken(); }

   private:
    Lines lines_;
};

/// A line without the mark is a conversation of one turn, which trains nothing; a file of such lines is a mistake.
class EndOfUtteranceRecords : public LineRecords {
   public:
    explicit EndOfUtteranceRecords(const std::string& path) : LineRecords(path), path_(path) {}
    bool next(RawRecord& record) override {
        if (LineRecords::next(record)) {
            read_ = true;
            marked_ = marked_ || record.text.find(kEndOfUtteranceMark) != std::string::npos;
            return true;
        }
        require(marked_ || !read_, ErrorCode::kData, "'{}' has no {} in it; is --format {} right?", path_,
                kEndOfUtteranceMark, name_of(Format::kEndOfUtterance));
        return false;
    }

   private:
    std::string path_;
    bool read_ = false;
    bool marked_ = false;
};

class ParagraphRecords : public RecordReader {
   public:
    explicit ParagraphRecords(const std::string& path) : lines_(path) {}
    bool next(RawRecord& record) override {
        bool inside = false;
        while (lines_.next(line_)) {
            if (is_blank(line_) && !lines_.too_long()) {
                if (inside) return true;
                continue;
            }
            if (!inside) record.reset(lines_.number());
            inside = true;
            if (lines_.too_long() || record.text.size() + line_.size() > kMaxRecordBytes) record.problem = too_long();
            if (record.problem.empty()) record.text.append(line_).push_back('\n');
        }
        return inside;
    }
    [[nodiscard]] std::int64_t bytes_taken() const override { return lines_.input().bytes_taken(); }

   private:
    Lines lines_;
    std::string line_;
};

/// The members of the one object that a file is. Only brackets and strings are followed here; whether a member is
/// sound is found out when it is parsed.
class MemberRecords : public RecordReader {
   public:
    explicit MemberRecords(const std::string& path) : bytes_(path) {}

    bool next(RawRecord& record) override {
        if (state_ == State::kEnded) return false;
        record.reset(line_);
        record.text.assign(1, '{');
        begun_ = false;
        for (std::string_view piece = bytes_.available(); !piece.empty(); piece = bytes_.available()) {
            std::size_t used = 0;
            bool complete = false;
            while (used < piece.size() && !complete) complete = step(piece[used++], record);
            bytes_.take(used);
            if (complete) return finish(record);
        }
        return end_of_file(record);
    }
    [[nodiscard]] std::int64_t bytes_taken() const override { return bytes_.input().bytes_taken(); }

   private:
    enum class State : std::uint8_t { kBefore, kMembers, kAfter, kEnded };

    /// Takes one character; true when a record ends with it.
    bool step(char c, RawRecord& record) {
        if (c == '\n') ++line_;
        const bool blank = kWhiteSpace.find(c) != std::string_view::npos;
        if (state_ != State::kMembers) return step_outside(c, blank, record);
        if (!begun_) {
            if (blank) return false;
            begun_ = true;
            record.line = line_;
        }
        if (depth_ == 0 && !in_string_ && (c == ',' || c == '}')) {
            const bool missing = record.text.size() == 1 && (c == ',' || after_comma_);
            if (missing) record.problem = "a member is missing before or after a comma";
            if (c == '}') state_ = State::kAfter;
            after_comma_ = c == ',';
            return missing || record.text.size() > 1;
        }
        follow(c);
        if (record.text.size() >= kMaxRecordBytes) {
            record.problem = too_long();
        } else {
            record.text += c;
        }
        return false;
    }
    bool step_outside(char c, bool blank, RawRecord& record) {
        if (blank) return false;
        if (state_ == State::kBefore && c == '{') {
            state_ = State::kMembers;
            return false;
        }
        record.problem = state_ == State::kBefore ? "the file does not begin with '{'"
                                                  : "there is text after the closing '}' of the file";
        record.line = line_;
        state_ = State::kEnded;
        return true;
    }
    void follow(char c) {
        if (in_string_) {
            in_string_ = escaped_ || c != '"';
            escaped_ = !escaped_ && c == '\\';
            return;
        }
        if (c == '"') in_string_ = true;
        if (c == '{' || c == '[') ++depth_;
        if (c == '}' || c == ']') --depth_;
    }
    static bool finish(RawRecord& record) {
        record.text += '}';
        return true;
    }
    bool end_of_file(RawRecord& record) {
        const bool sound = state_ == State::kAfter;
        state_ = State::kEnded;
        if (!sound) record.problem = "the file ends before the closing '}' of its object";
        return !sound;
    }

    Bytes bytes_;
    State state_ = State::kBefore;
    std::int64_t line_ = 1;
    int depth_ = 0;
    bool in_string_ = false;
    bool escaped_ = false;
    bool begun_ = false;
    bool after_comma_ = false;
};

}  // namespace

std::string_view name_of(Format format) {
    switch (format) {
        case Format::kAuto:
            return "auto";
        case Format::kJsonLines:
            return "jsonl";
        case Format::kText:
            return "text";
        case Format::kEndOfUtterance:
            return "eou";
        case Format::kTopicalChat:
            return "topical-chat";
    }
    fail(ErrorCode::kInternal, "a format numbered {}", static_cast<int>(format));
}

std::unique_ptr<RecordReader> open_records(const std::string& path, Format format) {
    switch (format) {
        case Format::kJsonLines:
            return std::make_unique<LineRecords>(path);
        case Format::kEndOfUtterance:
            return std::make_unique<EndOfUtteranceRecords>(path);
        case Format::kText:
            return std::make_unique<ParagraphRecords>(path);
        case Format::kTopicalChat:
            return std::make_unique<MemberRecords>(path);
        case Format::kAuto:
            break;
    }
    fail(ErrorCode::kInternal, "records of a format numbered {}", static_cast<int>(format));
}

}  // namespace duologue::preprocess
