// Header length, JSON header, elements (github.com/huggingface/safetensors, "Format").
#include "safetensors.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "duologue/core/error.h"
#include "duologue/core/hash.h"

namespace duologue {

namespace {

using nlohmann::ordered_json;

constexpr const char* kHashKey = "content_hash";
constexpr std::uint64_t kLongestHeader = 100'000'000;  // the format's own limit

std::uint64_t bytes_of(const NamedShape& tensor) {
    std::uint64_t bytes = sizeof(float);
    for (const std::int64_t extent : tensor.shape) bytes *= static_cast<std::uint64_t>(extent);
    return bytes;
}

std::uint64_t bytes_of(const std::vector<NamedShape>& tensors) {
    std::uint64_t bytes = 0;
    for (const NamedShape& tensor : tensors) bytes += bytes_of(tensor);
    return bytes;
}

ordered_json describe(const std::vector<NamedShape>& tensors) {
    ordered_json header;
    std::uint64_t begin = 0;
    for (const NamedShape& tensor : tensors) {
        const std::uint64_t end = begin + bytes_of(tensor);
        header[tensor.name] = {{"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
        begin = end;
    }
    return header;
}

template <class T>
std::string_view as_bytes(std::span<T> values) {
    return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

std::string header_text(const std::vector<NamedShape>& tensors, const Metadata& metadata) {
    ordered_json header{{"__metadata__", metadata}};
    header.update(describe(tensors));
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');  // the elements begin aligned
    return text;
}

/// A file open behind its header.
struct OpenFile {
    std::ifstream stream;
    ordered_json header;
    std::uint64_t data_bytes = 0;
};

OpenFile open_file(const std::string& path) {
    OpenFile file{.stream = std::ifstream(path, std::ios::binary), .header = {}, .data_bytes = 0};
    require(file.stream.is_open(), ErrorCode::kInputOutput, "cannot open '{}' to read it: {}", path,
            std::strerror(errno));
    const std::uint64_t size = std::filesystem::file_size(path);
    std::uint64_t length = 0;
    file.stream.read(reinterpret_cast<char*>(&length), sizeof length);
    require(file.stream && length <= kLongestHeader && length + sizeof length <= size, ErrorCode::kData,
            "'{}' is cut short or not a safetensors file: it has {} bytes and announces a header of {}", path, size,
            length);
    std::string text(length, '\0');
    file.stream.read(text.data(), static_cast<std::streamsize>(length));
    file.header = ordered_json::parse(text, nullptr, false);
    require(file.header.is_object() && file.header.contains("__metadata__"), ErrorCode::kData,
            "'{}' is damaged: its header is not readable; copy it again", path);
    file.data_bytes = size - sizeof length - length;
    return file;
}

Metadata metadata_of(const ordered_json& header) {
    Metadata result;
    for (const auto& [key, value] : header.at("__metadata__").items()) {
        result[key] = value.is_string() ? value.get<std::string>() : "";
    }
    return result;
}

}  // namespace

void write_safetensors(const std::string& path, const std::vector<NamedShape>& tensors, Metadata metadata,
                       const std::vector<std::span<const float>>& pieces) {
    std::uint64_t hash = fnv1a("");
    std::uint64_t bytes = 0;
    for (const std::span<const float> piece : pieces) {
        hash = fnv1a(as_bytes(piece), hash);
        bytes += piece.size_bytes();
    }
    require(bytes == bytes_of(tensors), ErrorCode::kInternal, "{} bytes for tensors of {}", bytes, bytes_of(tensors));
    metadata["format"] = "pt";
    metadata[kHashKey] = hash_text(hash);
    const std::string header = header_text(tensors, metadata);
    const std::uint64_t length = header.size();
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(&length), sizeof length);
    file << header;
    for (const std::span<const float> piece : pieces) file << as_bytes(piece);
    file.close();
    require(!file.fail(), ErrorCode::kInputOutput, "cannot write '{}': {}; is the disk full?", path,
            std::strerror(errno));
}

Metadata read_safetensors_metadata(const std::string& path) { return metadata_of(open_file(path).header); }

void read_safetensors(const std::string& path, const std::vector<NamedShape>& tensors,
                      const std::vector<std::span<float>>& pieces) {
    OpenFile file = open_file(path);
    Metadata metadata = metadata_of(file.header);
    file.header.erase("__metadata__");
    require(file.header == describe(tensors), ErrorCode::kData,
            "'{}' holds other tensors than the model described beside it; copy the folder as a whole", path);
    require(file.data_bytes == bytes_of(tensors), ErrorCode::kData,
            "'{}' holds {} bytes of parameters where its header announces {}; copy it again", path, file.data_bytes,
            bytes_of(tensors));
    std::uint64_t hash = fnv1a("");
    for (const std::span<float> piece : pieces) {
        file.stream.read(reinterpret_cast<char*>(piece.data()), static_cast<std::streamsize>(piece.size_bytes()));
        hash = fnv1a(as_bytes(piece), hash);
    }
    require(file.stream.good(), ErrorCode::kInputOutput, "cannot read '{}' to its end: {}", path, std::strerror(errno));
    require(metadata[kHashKey] == hash_text(hash), ErrorCode::kData,
            "'{}' has been changed or damaged: its content has the hash {} where it states '{}'; copy it again", path,
            hash_text(hash), metadata[kHashKey]);
}

}  // namespace duologue
