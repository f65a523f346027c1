// Prints a saved model's logits for the peers to compare: dump_logits MODEL <LINES
// A line holds the ids of a source, ";", and the ids of a reply; for each of <sos> and the reply's words a line of V
// numbers comes out.
#include <fmt/format.h>

#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "duologue/backend/backend.h"
#include "duologue/chat/speaker.h"
#include "duologue/core/error.h"
#include "duologue/model/transformer.h"

namespace {

std::vector<std::int32_t> ids_of(const std::string& text) {
    std::vector<std::int32_t> ids;
    std::istringstream words(text);
    for (std::int32_t id = 0; words >> id;) ids.push_back(id);
    return ids;
}

void dump(duologue::IncrementalDecoder& decoder, const std::string& line) {
    const std::size_t middle = line.find(';');
    duologue::require(middle != std::string::npos, duologue::ErrorCode::kData, "the line '{}' has no ;", line);
    decoder.begin(ids_of(line.substr(0, middle)));
    std::vector<std::int32_t> reply = ids_of(line.substr(middle + 1));
    reply.insert(reply.begin(), duologue::Vocabulary::kStart);
    for (const std::int32_t token : reply) fmt::print("{:.9g}\n", fmt::join(decoder.step(token), " "));
}

}  // namespace

int main(int argc, char** argv) {
    try {
        duologue::require(argc == 2, duologue::ErrorCode::kConfiguration, "usage: dump_logits MODEL <LINES");
        duologue::Speaker speaker(duologue::load_model(argv[1]), duologue::make_cpu_backend(1));
        duologue::IncrementalDecoder decoder(speaker.model(), speaker.backend(), speaker.weights(),
                                             speaker.card().max_context_tokens, speaker.card().max_reply_tokens);
        for (std::string line; std::getline(std::cin, line);) dump(decoder, line);
        return 0;
    } catch (const duologue::Error& error) {
        fmt::print(stderr, "error: {}\n", error.what());
        return error.exit_status();
    }
}
