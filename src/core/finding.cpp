// Findings as lines, and what they add up to.
#include "duologue/core/finding.h"

#include <algorithm>

namespace duologue {

std::string_view name_of(Verdict verdict) {
    switch (verdict) {
        case Verdict::kOk:
            return "ok";
        case Verdict::kWarning:
            return "warn";
        case Verdict::kFailure:
            return "fail";
    }
    fail(ErrorCode::kInternal, "an unknown verdict {}", static_cast<int>(verdict));
}

Finding fine(std::string topic, std::string text) { return {.topic = std::move(topic), .text = std::move(text)}; }

Finding doubtful(std::string topic, std::string text, std::string remedy) {
    return {
        .verdict = Verdict::kWarning, .topic = std::move(topic), .text = std::move(text), .remedy = std::move(remedy)};
}

Finding wrong(ErrorCode code, std::string topic, std::string text, std::string remedy) {
    return {.verdict = Verdict::kFailure,
            .topic = std::move(topic),
            .text = std::move(text),
            .remedy = std::move(remedy),
            .code = code};
}

Finding wrong(const std::string& topic, const Error& error) { return wrong(error.code(), topic, error.what(), ""); }

Finding compare_versions(const std::string& library, const std::string& compiled, const std::string& running) {
    const auto release = [](const std::string& version) {
        const std::size_t first = version.find('.');
        return version.substr(0, first == std::string::npos ? first : version.find('.', first + 1));
    };
    if (release(compiled) == release(running)) return fine(library, running);
    return doubtful(library, fmt::format("{} is running, the program was compiled with {}", running, compiled),
                    fmt::format("build the program where it runs, or put {} {} first in LD_LIBRARY_PATH", library,
                                release(compiled)));
}

std::string render(const Findings& findings) {
    std::size_t width = 0;
    for (const Finding& finding : findings) width = std::max(width, finding.topic.size());
    std::string text;
    for (const Finding& finding : findings) {
        text += fmt::format("{:<4}  {:<{}}  {}\n", name_of(finding.verdict), finding.topic, width, finding.text);
        if (!finding.remedy.empty()) text += fmt::format("{:{}}  -> {}\n", "", width + 6, finding.remedy);
    }
    return text;
}

int exit_status_of(const Findings& findings) {
    const auto failure = std::find_if(findings.begin(), findings.end(),
                                      [](const Finding& finding) { return finding.verdict == Verdict::kFailure; });
    return failure == findings.end() ? 0 : static_cast<int>(failure->code);
}

}  // namespace duologue
