// LineReader: lines from a person at a terminal, with editing and history, or from a pipe or file.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>

namespace duologue {

class LineReader {
   public:
    virtual ~LineReader() = default;
    /// The next line without its end; nothing at the end of input or when the person has pressed Ctrl-C or Ctrl-D.
    [[nodiscard]] virtual std::optional<std::string> next() = 0;
};

/// Editing keys and history by libedit. `history_path` "": none is kept. Needs a terminal on standard input and output.
[[nodiscard]] std::unique_ptr<LineReader> make_editing_reader(const std::string& prompt,
                                                              const std::string& history_path);
/// Lines of standard input; `prompt` is printed before each ("" for none). A signal ends them when it has made
/// `interrupted` true.
[[nodiscard]] std::unique_ptr<LineReader> make_plain_reader(const std::string& prompt,
                                                            const std::atomic<bool>& interrupted);
/// Lines of a text; nobody is asked.
[[nodiscard]] std::unique_ptr<LineReader> make_text_reader(const std::string& text);

}  // namespace duologue
