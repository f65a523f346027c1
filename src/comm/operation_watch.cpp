// A queue of operations and the time at which its front became the front.
#include "comm/operation_watch.h"

#include <algorithm>

#include "duologue/core/error.h"

namespace duologue {

void OperationWatch::queued(const char* what, Time now) {
    if (operations_.empty()) begin_ = now;
    operations_.push_back(what);
}

void OperationWatch::ran(Time now) {
    require(!operations_.empty(), ErrorCode::kInternal, "an operation has run that was not queued");
    operations_.pop_front();
    ++ran_;
    begin_ = now;
}

std::optional<OperationWatch::Stall> OperationWatch::stalled(double seconds, Time latest_sign, Time now) const {
    if (operations_.empty()) return std::nullopt;
    const auto since = [now](Time time) { return std::chrono::duration<double>(now - time).count(); };
    if (since(std::max(begin_, latest_sign)) <= seconds) return std::nullopt;
    return Stall{.what = operations_.front(), .number = number(), .waited_seconds = since(begin_)};
}

}  // namespace duologue
