// FlatLayout: where the flat buffers are cut: into buckets that are summed together, and into the pieces a rank
// updates.
#pragma once

#include <cstdint>
#include <vector>

namespace duologue {

/// Elements [begin, begin + length) of the flat buffers.
struct FlatRange {
    std::int64_t begin = 0;
    std::int64_t length = 0;
    bool operator==(const FlatRange&) const = default;
};

/// A range that this rank updates. What only its owner keeps of it stands at `offset` of the owner's slice.
struct Piece {
    FlatRange range;
    std::int64_t offset = 0;
    bool operator==(const Piece&) const = default;
};

/// Which of how many owners of the optimizer's state a rank is. One owner: every rank updates everything.
struct Owner {
    int index = 0;
    int count = 1;
};

/// A function of its arguments alone, so that every rank cuts alike whatever its work.
class FlatLayout {
   public:
    /// Buckets hold at least `bucket_bytes` of f32, but for the last. With several owners every bucket is a multiple of
    /// count * kPieceAlignment elements, and owner i updates the i-th part of each (Rajbhandari et al. 2020, stage 1).
    FlatLayout(std::int64_t elements, std::int64_t bucket_bytes, const Owner& owner);

    static constexpr std::int64_t kPieceAlignment = 64;  // elements: 128 bytes of bf16

    [[nodiscard]] std::int64_t elements() const { return elements_; }       ///< as the parameter table has
    [[nodiscard]] std::int64_t padded_elements() const { return padded_; }  ///< with the tail that evens out the pieces
    [[nodiscard]] std::int64_t slice_elements() const { return slice_; }    ///< of all pieces together
    [[nodiscard]] bool sharded() const { return sharded_; }
    [[nodiscard]] const std::vector<FlatRange>& buckets() const { return buckets_; }
    /// Without sharding: one, of everything. Else one for each bucket.
    [[nodiscard]] const std::vector<Piece>& pieces() const { return pieces_; }

   private:
    std::int64_t elements_;
    std::int64_t padded_ = 0;
    std::int64_t slice_ = 0;
    bool sharded_;
    std::vector<FlatRange> buckets_;
    std::vector<Piece> pieces_;
};

}  // namespace duologue
