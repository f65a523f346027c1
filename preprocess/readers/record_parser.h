// Turning one raw record into a conversation, or saying why that cannot be done.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "readers/conversation.h"
#include "readers/record_reader.h"

namespace duologue::preprocess {

struct RecordProblem {
    std::int64_t line = 0;  ///< of the file, as near to the trouble as is known
    std::string reason;
};

/// Replaces what `conversation` held by the turns of `record`. Nothing but the arguments matters, so records can be
/// parsed in any order and by several threads.
[[nodiscard]] std::optional<RecordProblem> parse_record(Format format, const RawRecord& record,
                                                        Conversation& conversation);

}  // namespace duologue::preprocess
