// Lines by libedit, by standard input, from a text.
#include "line_reader.h"

#include <histedit.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <iostream>
#include <sstream>

#include "duologue/core/error.h"

namespace duologue {

namespace {

constexpr int kHistoryLines = 1000;

class EditingReader final : public LineReader {
   public:
    EditingReader(std::string prompt, std::string history_path)
        : prompt_(std::move(prompt)), history_path_(std::move(history_path)) {
        setlocale(LC_CTYPE, "C.UTF-8");  // libedit reads wide characters, whatever the person's locale is
        editor_.reset(el_init("duologue", stdin, stdout, stderr));
        require(editor_ != nullptr, ErrorCode::kInputOutput, "cannot set up line editing on this terminal");
        EditLine* editor = editor_.get();
        el_set(editor, EL_CLIENTDATA, this);
        el_set(editor, EL_PROMPT, &EditingReader::prompt);
        el_set(editor, EL_EDITOR, "emacs");
        el_set(editor, EL_HIST, history, history_.get());
        // Ctrl-C at the prompt ends the chat like Ctrl-D; during a reply it is a signal and ends the reply.
        el_set(editor, EL_SETTY, "-d", "intr=", nullptr);
        el_set(editor, EL_BIND, "^C", "ed-end-of-file", nullptr);
        HistEvent event;
        history(history_.get(), &event, H_SETSIZE, kHistoryLines);
        history(history_.get(), &event, H_SETUNIQUE, 1);
        if (!history_path_.empty()) history(history_.get(), &event, H_LOAD, history_path_.c_str());
    }

    std::optional<std::string> next() override {
        int length = 0;
        el_resize(editor_.get());  // the window may have another size than at the last prompt
        const char* text = el_gets(editor_.get(), &length);
        if (text == nullptr || length <= 0) {
            std::cout << '\n' << std::flush;
            return std::nullopt;
        }
        std::string line(text, static_cast<std::size_t>(length));
        while (line.ends_with('\n') || line.ends_with('\r')) line.pop_back();
        if (!line.empty()) remember(line);
        return line;
    }

   private:
    void remember(const std::string& line) {
        HistEvent event;
        history(history_.get(), &event, H_ENTER, line.c_str());
        // A history that cannot be kept is no reason to disturb a conversation.
        if (!history_path_.empty()) history(history_.get(), &event, H_SAVE, history_path_.c_str());
    }

    static char* prompt(EditLine* editor) {
        EditingReader* self = nullptr;
        el_get(editor, EL_CLIENTDATA, &self);
        return self->prompt_.data();
    }

    std::string prompt_;
    std::string history_path_;
    std::unique_ptr<History, decltype(&history_end)> history_{history_init(), &history_end};
    std::unique_ptr<EditLine, decltype(&el_end)> editor_{nullptr, &el_end};
};

class PlainReader final : public LineReader {
   public:
    PlainReader(std::string prompt, const std::atomic<bool>& interrupted)
        : prompt_(std::move(prompt)), interrupted_(interrupted) {}

    std::optional<std::string> next() override {
        std::cout << prompt_ << std::flush;
        std::size_t end = buffer_.find('\n');
        while (end == std::string::npos && read_more()) end = buffer_.find('\n');
        if (end == std::string::npos && buffer_.empty()) {
            if (!prompt_.empty()) std::cout << std::endl;
            return std::nullopt;
        }
        std::string line = buffer_.substr(0, end);
        buffer_.erase(0, end == std::string::npos ? end : end + 1);
        return line;
    }

   private:
    /// By read(2), because the streams of the library go on reading after a signal.
    bool read_more() {
        char piece[4096];
        ssize_t count = 0;
        do {
            count = read(STDIN_FILENO, piece, sizeof piece);
        } while (count < 0 && errno == EINTR && !interrupted_);
        if (count > 0) buffer_.append(piece, static_cast<std::size_t>(count));
        return count > 0;
    }

    std::string prompt_;
    const std::atomic<bool>& interrupted_;
    std::string buffer_;
};

class TextReader final : public LineReader {
   public:
    explicit TextReader(const std::string& text) : stream_(text) {}
    std::optional<std::string> next() override {
        std::string line;
        return std::getline(stream_, line) ? std::optional(line) : std::nullopt;
    }

   private:
    std::istringstream stream_;
};

}  // namespace

std::unique_ptr<LineReader> make_editing_reader(const std::string& prompt, const std::string& history_path) {
    return std::make_unique<EditingReader>(prompt, history_path);
}

std::unique_ptr<LineReader> make_plain_reader(const std::string& prompt, const std::atomic<bool>& interrupted) {
    return std::make_unique<PlainReader>(prompt, interrupted);
}

std::unique_ptr<LineReader> make_text_reader(const std::string& text) { return std::make_unique<TextReader>(text); }

}  // namespace duologue
