// Safetensors: the file format of Hugging Face for named tensors; here f32 only, checked by hashes in its metadata.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace duologue {

/// One tensor; in the file they follow each other in the order of the list.
struct NamedShape {
    std::string name;
    std::vector<std::int64_t> shape;
};

using Metadata = std::map<std::string, std::string>;

/// Writes `path`: `pieces`, end to end, are the elements of all of `tensors`. Adds their hash to the metadata.
void write_safetensors(const std::string& path, const std::vector<NamedShape>& tensors, Metadata metadata,
                       const std::vector<std::span<const float>>& pieces);

/// The metadata alone; kData where the header is not readable.
[[nodiscard]] Metadata read_safetensors_metadata(const std::string& path);

/// Reads what write_safetensors wrote into `pieces`. kData where the file holds anything but `tensors`, is cut short or
/// has been changed.
void read_safetensors(const std::string& path, const std::vector<NamedShape>& tensors,
                      const std::vector<std::span<float>>& pieces);

}  // namespace duologue
