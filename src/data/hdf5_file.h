// Hdf5File: one HDF5 file of attributes and checksummed one-dimensional datasets; the only door to the HDF5 library.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace duologue {

enum class Hdf5Type : std::uint8_t { kF32, kU8, kU16, kU32, kU64, kI64 };

[[nodiscard]] std::string_view name_of(Hdf5Type type);

template <class T>
struct Hdf5TypeOf;
template <>
struct Hdf5TypeOf<float> {
    static constexpr Hdf5Type kValue = Hdf5Type::kF32;
};
template <>
struct Hdf5TypeOf<std::uint8_t> {
    static constexpr Hdf5Type kValue = Hdf5Type::kU8;
};
template <>
struct Hdf5TypeOf<std::uint16_t> {
    static constexpr Hdf5Type kValue = Hdf5Type::kU16;
};
template <>
struct Hdf5TypeOf<std::uint32_t> {
    static constexpr Hdf5Type kValue = Hdf5Type::kU32;
};
template <>
struct Hdf5TypeOf<std::uint64_t> {
    static constexpr Hdf5Type kValue = Hdf5Type::kU64;
};
template <>
struct Hdf5TypeOf<std::int64_t> {
    static constexpr Hdf5Type kValue = Hdf5Type::kI64;
};

/// Datasets are one-dimensional, little-endian, chunked, with a Fletcher-32 checksum on every chunk; the file's own
/// structures carry checksums too, so a flipped bit anywhere that is read shows. No times are stored: equal content
/// gives equal bytes. Every function throws an Error that
/// names the file: kInputOutput where the system refuses (missing file, full disk), kData where the content is
/// damaged or not what is expected. One file object belongs to one thread at a time.
class Hdf5File {
   public:
    static constexpr std::int64_t kChunkBytes = 64 * 1024;

    /// A new file, replacing what `path` held. Use it on PendingFile::temporary_path().
    [[nodiscard]] static Hdf5File create(const std::string& path);
    /// An existing file, read-only and without file locking, so that many processes may read it.
    [[nodiscard]] static Hdf5File open(const std::string& path);

    ~Hdf5File();  // closes; a writer calls close() first, because only that reports what went wrong
    Hdf5File(Hdf5File&&) noexcept;
    Hdf5File& operator=(Hdf5File&&) noexcept;
    Hdf5File(const Hdf5File&) = delete;
    Hdf5File& operator=(const Hdf5File&) = delete;

    void write_attribute(const std::string& name, std::int64_t value);
    void write_attribute(const std::string& name, std::string_view text);
    [[nodiscard]] bool has_attribute(const std::string& name) const;
    [[nodiscard]] std::int64_t read_integer(const std::string& name) const;
    [[nodiscard]] std::string read_text(const std::string& name) const;

    /// An empty dataset that append() lets grow. Groups in `name` ("moments/first") are made as needed.
    void create_dataset(const std::string& name, Hdf5Type type);
    /// Appends to a dataset of exactly type T.
    template <class T>
    void append(const std::string& name, std::span<const T> values) {
        append_raw(name, Hdf5TypeOf<T>::kValue, values.data(), static_cast<std::int64_t>(values.size()));
    }
    /// create_dataset() and append() in one.
    template <class T>
    void write(const std::string& name, std::span<const T> values) {
        create_dataset(name, Hdf5TypeOf<T>::kValue);
        append(name, values);
    }
    /// Text of any length as a checksummed dataset of bytes, and back.
    void write_long_text(const std::string& name, std::string_view text);
    [[nodiscard]] std::string read_long_text(const std::string& name) const;

    [[nodiscard]] bool has_dataset(const std::string& name) const;
    [[nodiscard]] std::int64_t length(const std::string& name) const;  ///< elements
    [[nodiscard]] Hdf5Type type(const std::string& name) const;

    /// Elements [begin, begin + values.size()) of a dataset of exactly type T into `values`.
    template <class T>
    void read_range(const std::string& name, std::int64_t begin, std::span<T> values) const {
        read_raw(name, Hdf5TypeOf<T>::kValue, begin, static_cast<std::int64_t>(values.size()), values.data());
    }
    template <class T>
    [[nodiscard]] std::vector<T> read_all(const std::string& name) const {
        std::vector<T> values(static_cast<std::size_t>(length(name)));
        read_range(name, 0, std::span<T>(values));
        return values;
    }

    /// Hands everything to the system and closes; after it nothing but the destructor may be called. A later
    /// PendingFile::commit() makes it durable.
    void close();
    [[nodiscard]] const std::string& path() const;

   private:
    struct State;  // the library's handles
    explicit Hdf5File(std::unique_ptr<State> state);
    void append_raw(const std::string& name, Hdf5Type type, const void* values, std::int64_t count);
    void read_raw(const std::string& name, Hdf5Type wanted, std::int64_t begin, std::int64_t count, void* values) const;

    std::unique_ptr<State> state_;
};

}  // namespace duologue
