// preprocess(): conversation files to a folder with vocabulary, shards and manifest.
#pragma once

#include "duologue/core/log.h"
#include "duologue/data/shards.h"
#include "options.h"

namespace duologue::preprocess {

/// Two passes over the inputs, one to count words (left out where a vocabulary is given) and one to write shards.
/// Everything gets its final name at the end, the manifest last; after an error nothing new remains in the folder.
/// The result depends on the inputs and options, not on `workers`. Memory is bounded whatever the size of the inputs.
/// kConfiguration, kData (malformed records where on_error is kStop, nothing to write), kInputOutput.
Manifest preprocess(const PreprocessOptions& options, const Log& log);

}  // namespace duologue::preprocess
