// ProblemLog: what happens to records that cannot be read: the first one ends the run, or they are counted and listed.
#pragma once

#include <cstdint>
#include <string>

#include "duologue/core/error.h"
#include "duologue/core/log.h"
#include "options.h"
#include "readers/record_parser.h"

namespace duologue::preprocess {

class ProblemLog {
   public:
    static constexpr std::int64_t kListed = 10;
    /// Without a `log` records are counted and not listed.
    ProblemLog(OnError on_error, const Log* log) : on_error_(on_error), log_(log) {}

    /// kStop: throws kData with file, line and reason.
    void add(const std::string& file, const RecordProblem& problem) {
        require(on_error_ == OnError::kSkip, ErrorCode::kData,
                "{}:{}: {}; correct the record or leave such records out with --on-error skip", file, problem.line,
                problem.reason);
        if (++count_ <= kListed && log_ != nullptr)
            log_->warning("skipped {}:{}: {}", file, problem.line, problem.reason);
    }
    /// Says how many there were, where not all were listed.
    void finish() const {
        if (count_ > kListed && log_ != nullptr)
            log_->warning("skipped {} records; the first {} are listed above", count_, kListed);
    }

   private:
    OnError on_error_;
    const Log* log_;
    std::int64_t count_ = 0;
};

}  // namespace duologue::preprocess
