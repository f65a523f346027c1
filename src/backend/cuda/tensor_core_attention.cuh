// What the kernels of attention on tensor cores share: tiles in shared memory, their fragments, dropout's mask.
#pragma once

#include "backend/cuda/attention.cuh"
#include "backend/cuda/tensor_core.cuh"

namespace duologue::cuda {

// A block has one sequence and head, and tiles of up to kBlockRows queries and keys of them in shared memory. Rows come
// in strips of kStrip, the side of a matrix product; each warp has one strip of a tile. What lies beyond a sequence is
// left out by strips and is zeros up to the end of the last one.
inline constexpr int kStrip = 16;
inline constexpr int kBlockRows = 64;
inline constexpr int kStrips = kBlockRows / kStrip;
inline constexpr int kStripThreads = kStrips * kWarp;
inline constexpr float kLn2 = 0.693147181F;

// Eight rows that lie an odd number of 16 bytes apart meet all banks once, for every width that is a multiple of 16.
__host__ __device__ constexpr int padded(int width) { return width + kOctet; }

/// What a block has: a head of one sequence, of whose queries and keys the first lie in these rows.
struct Share {
    int first_query_row;
    int queries;
    int first_key_row;
    int keys;
    int head;
};

/// Of the block: blockIdx.x counts heads first, so that neighbours read the same rows.
__device__ __forceinline__ Share share_of(const Sequences& sequences, int heads) {
    const unsigned sequence = blockIdx.x / static_cast<unsigned>(heads);
    const Span queries = query_span(sequences, sequence);
    const Span keys = key_span(sequences, sequence);
    return {.first_query_row = static_cast<int>(queries.begin),
            .queries = static_cast<int>(queries.end - queries.begin),
            .first_key_row = static_cast<int>(keys.begin),
            .keys = static_cast<int>(keys.end - keys.begin),
            .head = static_cast<int>(blockIdx.x % static_cast<unsigned>(heads))};
}

/// Where this thread stands. Of the sums of a product it has rows `group` and group + 8, columns 2 * pair and the next.
struct Seat {
    int warp;
    int lane;
    int group;
    int pair;
};

__device__ __forceinline__ Seat seat() {
    const int thread = thread_anew();
    const int lane = thread % kWarp;
    return {.warp = thread / kWarp, .lane = lane, .group = lane / 4, .pair = lane % 4};
}

/// The row that this lane points to, for matrices (0-7, 0-7), (8-15, 0-7), (0-7, 8-15), (8-15, 8-15) of 16 x 16
/// elements from `corner` on: a product's first operand, or by load_transposed() its second one where that lies by
/// [k][n].
__device__ __forceinline__ const Bf16* down_first(const Bf16* corner, int stride, int lane) {
    return corner + lane % 16 * stride + lane / 16 * 8;
}

/// For matrices (0-7, 0-7), (0-7, 8-15), (8-15, 0-7), (8-15, 8-15): a product's second operand that lies by [n][k], or
/// by load_transposed() its first one that lies by [k][m].
__device__ __forceinline__ const Bf16* across_first(const Bf16* corner, int stride, int lane) {
    return corner + (lane % 8 + lane / 16 * 8) * stride + lane / 8 % 2 * 8;
}

/// Two neighbouring products' sums as the first operand of another.
__device__ __forceinline__ Matrices operand_of(const float (&left)[4], const float (&right)[4]) {
    return {
        {packed(left[0], left[1]), packed(left[2], left[3]), packed(right[0], right[1]), packed(right[2], right[3])}};
}

/// sums[16, kWidth] += a[16,16] b[16, kWidth], b lying by [k][n]; `b` is this lane's row of its first 16 columns.
template <int kWidth>
__device__ __forceinline__ void add_product(float (&sums)[kWidth / 8][4], const Matrices& a, const Bf16* b) {
#pragma unroll
    for (int n = 0; n < kWidth / 16; ++n) {
        const Matrices m = load_transposed(b + 16 * n);
        multiply_add(sums[2 * n], a, m.word[0], m.word[1]);
        multiply_add(sums[2 * n + 1], a, m.word[2], m.word[3]);
    }
}

__device__ __forceinline__ int strips_of(int rows) { return (rows + kStrip - 1) / kStrip; }

/// How threads share rows of a head: each has one octet of columns, and a row out of kRows.
template <int kWidth, int kThreads>
struct Octets {
    static constexpr int kPerRow = kWidth / kOctet;
    static constexpr int kRows = kThreads / kPerRow;
    int row;
    int column;
    bool works;

    __device__ explicit Octets(int thread)
        : row(thread / kPerRow),
          column(thread % kPerRow * kOctet),
          works(kRows * kPerRow == kThreads || thread < kRows * kPerRow) {}
};

/// Begins to copy rows [first, first + count) of a head, and zeros up to the end of the last strip.
template <int kWidth>
__device__ __forceinline__ void begin_tile(Bf16* tile, int stride, const Rows<Bf16>& rows, int first, int count,
                                           int head) {
    const Octets<kWidth, kStripThreads> own(thread_anew());
    if (!own.works) return;
    const Bf16* from = rows.data + (first + own.row) * rows.stride + head * kWidth + own.column;
    Bf16* to = tile + own.row * stride + own.column;
    const int end = strips_of(count) * kStrip;
#pragma unroll 1
    for (int row = own.row; row < end; row += own.kRows) {
        begin_copy(to, from, row < count ? 16 : 0);
        from += own.kRows * static_cast<int>(rows.stride);
        to += own.kRows * stride;
    }
}

/// Rows [0, count) of a warp's own strip, from sums by way of shared memory, so that they leave by 16 bytes.
template <int kWidth>
__device__ __forceinline__ void store_strip(Bf16* to, std::int64_t to_stride, int count, Bf16* strip, int stride,
                                            const float (&sums)[kWidth / 8][4], const float (&factors)[2]) {
    const Seat at = seat();
    __syncwarp();
    Bf16* place = strip + at.group * stride + 2 * at.pair;
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n) {
        *reinterpret_cast<unsigned*>(place + 8 * n) = packed(sums[n][0] * factors[0], sums[n][1] * factors[0]);
        *reinterpret_cast<unsigned*>(place + 8 * n + 8 * stride) =
            packed(sums[n][2] * factors[1], sums[n][3] * factors[1]);
    }
    __syncwarp();
    const Octets<kWidth, kWarp> own(at.lane);
    if (own.works) {
        const Bf16* from = strip + own.row * stride + own.column;
        to += own.row * to_stride + own.column;
        const int end = min(count, kStrip);
#pragma unroll 1
        for (int row = own.row; row < end; row += own.kRows) {
            *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
            from += own.kRows * stride;
            to += own.kRows * static_cast<int>(to_stride);
        }
    }
    __syncwarp();
}

/// Dropout's mask of a tile. A row has the bits of whole octets of elements, from that one on that has its first key's:
/// element first + r * step is the one of row r and the tile's first key.
struct Mask {
    std::uint8_t* bits;  ///< in shared memory, kMaskBytes a row
    std::uint64_t key;
    std::uint32_t threshold;
    std::int64_t first;
    std::int64_t step;
};
inline constexpr int kMaskBytes = 16;  // kBlockRows keys, up to an octet's before them, and what is read with them

/// Bit i: whether element 8 * octet + i is kept, as dropout_factor() has it.
__device__ __forceinline__ unsigned kept_bits(const Mask& mask, std::uint64_t octet) {
    const auto words = philox(mask.key, octet, 0);
    unsigned bits = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        bits |= (words[i] & 0xffffU) >= mask.threshold ? 1U << (2 * i) : 0U;
        bits |= (words[i] >> 16) >= mask.threshold ? 2U << (2 * i) : 0U;
    }
    return bits;
}

/// Draws the bits of rows [first, end) and `keys` keys, one octet after the other by each of `threads` threads.
__device__ __forceinline__ void draw(const Mask& mask, int first, int end, int keys, int thread, int threads) {
    const int octets = (keys + 2 * kOctet - 2) / kOctet;
    int row = first + thread / octets;
    int octet = thread % octets;
#pragma unroll 1
    while (row < end) {
        const std::int64_t element = mask.first + row * mask.step;
        mask.bits[row * kMaskBytes + octet] = static_cast<std::uint8_t>(
            kept_bits(mask, static_cast<std::uint64_t>(element) / kOctet + static_cast<unsigned>(octet)));
        row += threads / octets;
        octet += threads % octets;
        if (octet >= octets) {
            octet -= octets;
            ++row;
        }
    }
}

/// Bit j: whether row r keeps key 32 * word + j of the tile.
__device__ __forceinline__ unsigned kept_keys(const Mask& mask, int row, int word) {
    const auto* words = reinterpret_cast<const unsigned*>(mask.bits + row * kMaskBytes) + word;
    const unsigned before =
        static_cast<unsigned>(mask.first) + static_cast<unsigned>(row) * static_cast<unsigned>(mask.step);
    return __funnelshift_r(words[0], words[1], before % kOctet);
}

/// Blocks of a sequence and head: as many as its mean length has tiles, which then share longer ones among them.
inline unsigned blocks_of(std::int64_t rows, const Offsets& offsets) {
    const std::int64_t mean = divided_up(rows, kBlockRows * std::max<std::int64_t>(offsets.sequences, 1));
    const std::int64_t most = std::min<std::int64_t>(divided_up(offsets.max_length, kBlockRows), 65535);
    return static_cast<unsigned>(std::clamp<std::int64_t>(mean, 1, std::max<std::int64_t>(most, 1)));
}

template <int kColumns>
struct HeadWidth {
    static constexpr int kValue = kColumns;
};

/// Calls `use` with the width of a head, which takes_head() has found good.
template <class Use>
cudaError_t with_head_width(std::int64_t width, const Use& use) {
    switch (width / kStrip) {
        case 1:
            return use(HeadWidth<16>{});
        case 2:
            return use(HeadWidth<32>{});
        case 3:
            return use(HeadWidth<48>{});
        case 4:
            return use(HeadWidth<64>{});
        case 5:
            return use(HeadWidth<80>{});
        case 6:
            return use(HeadWidth<96>{});
        case 7:
            return use(HeadWidth<112>{});
        default:
            return use(HeadWidth<128>{});
    }
}

}  // namespace duologue::cuda
