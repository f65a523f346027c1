// Cache blocking (Goto and van de Geijn 2008): independent tiles of the result, each summed over passes of the depth.
#include "backend/cpu/gemm.h"

#include <algorithm>

#include "backend/cpu/gemm_epilogue.h"
#include "backend/cpu/gemm_pack.h"
#include "backend/cpu/parallel.h"
#include "duologue/core/rounding.h"

namespace duologue::cpu {

namespace {

// Sizes chosen for 32 KiB of first-level and at least 512 KiB of second-level cache: a panel of b stays in the first
// level, both packed blocks and the sums in the second.
constexpr std::int64_t kDepthPerPass = 256;
constexpr std::int64_t kMostTileRows = 240;
constexpr std::int64_t kPackedColumnsBytes = std::int64_t{256} << 10;  // of a block of b
constexpr std::int64_t kSumsBytes = std::int64_t{240} << 10;           // of a tile that takes more than one pass
constexpr std::int64_t kTilesPerThread = 4;

struct Tiling {
    std::int64_t rows;  // of a tile, whole panels
    std::int64_t columns;
    std::int64_t row_tiles;
    std::int64_t column_tiles;
};

/// The wider a tile, the less often rows of a are packed for it.
std::int64_t most_tile_columns(const MicroKernel& kernel, std::int64_t depth) {
    constexpr std::int64_t kFloat = sizeof(float);
    const std::int64_t words = words_for(kernel.word, std::min(depth, kDepthPerPass));
    const std::int64_t packed = kPackedColumnsBytes / (words * kFloat);
    return depth <= kDepthPerPass ? packed : std::min(packed, kSumsBytes / (kMostTileRows * kFloat));
}

/// Tiles as large as the cache allows, but enough of them, and a multiple of the threads, to keep every thread busy.
Tiling choose_tiling(const MicroKernel& kernel, std::int64_t m, std::int64_t n, std::int64_t depth, int threads) {
    const std::int64_t row_panels = divided_up(m, kernel.rows);
    const std::int64_t column_panels = divided_up(n, kernel.columns);
    const std::int64_t column_tiles = divided_up(column_panels, most_tile_columns(kernel, depth) / kernel.columns);
    std::int64_t row_tiles = divided_up(row_panels, kMostTileRows / kernel.rows);
    const std::int64_t wanted = threads == 1 ? 1 : threads * kTilesPerThread;
    while (row_tiles < row_panels && (row_tiles * column_tiles < wanted && row_panels / row_tiles > 8)) ++row_tiles;
    while (row_tiles < row_panels && row_tiles * column_tiles < 8 * threads &&
           row_tiles * column_tiles % threads != 0) {
        ++row_tiles;
    }
    const std::int64_t rows = divided_up(row_panels, row_tiles) * kernel.rows;
    const std::int64_t columns = divided_up(column_panels, column_tiles) * kernel.columns;
    return {.rows = rows, .columns = columns, .row_tiles = divided_up(m, rows), .column_tiles = divided_up(n, columns)};
}

template <class T>
PackSource<T> left_source(const Matmul& operation) {
    const Tensor& a = operation.a;
    if (operation.transpose_a == Transpose::kYes)
        return {a.as<T>(), a.row_stride, Adjacent::kAcross, a.columns, a.rows};
    return {a.as<T>(), a.row_stride, Adjacent::kDepth, a.rows, a.columns};
}

template <class T>
PackSource<T> right_source(const Matmul& operation) {
    const Tensor& b = operation.b;
    if (operation.transpose_b == Transpose::kYes) return {b.as<T>(), b.row_stride, Adjacent::kDepth, b.rows, b.columns};
    return {b.as<T>(), b.row_stride, Adjacent::kAcross, b.columns, b.rows};
}

struct Range {
    std::int64_t begin;
    std::int64_t count;
};

template <class T>
PackSource<T> part_of(const PackSource<T>& source, Range across, Range depth) {
    const bool across_adjacent = source.adjacent == Adjacent::kAcross;
    const std::int64_t offset =
        across_adjacent ? depth.begin * source.stride + across.begin : across.begin * source.stride + depth.begin;
    return {source.data + offset, source.stride, source.adjacent, across.count, depth.count};
}

/// The product of one pair of operands, tile by tile.
template <class T>
class TiledProduct {
   public:
    TiledProduct(const MicroKernel& kernel, const Tensor& y, const Matmul& operation, int threads)
        : kernel_(kernel),
          y_(y),
          operation_(operation),
          left_(left_source<T>(operation)),
          right_(right_source<T>(operation)),
          store_(choose_store_tile(y, operation)),
          tiling_(choose_tiling(kernel, left_.across, right_.across, left_.depth, threads)),
          passes_(divided_up(left_.depth, kDepthPerPass)) {}

    [[nodiscard]] std::int64_t tiles() const { return tiling_.row_tiles * tiling_.column_tiles; }
    [[nodiscard]] std::int64_t scratch_bytes() const {
        return Scratch::bytes_for<float>(left_floats()) + Scratch::bytes_for<float>(right_floats()) +
               Scratch::bytes_for<float>(tiling_.rows * tiling_.columns);
    }

    /// Tiles run down the rows first, so that with a single pass consecutive tiles share the packed block of b;
    /// `packed_column` is the thread's note of which one its scratch holds.
    void run_tile(std::int64_t tile, Scratch scratch, std::int64_t& packed_column) const {
        const Range rows = clipped(tile % tiling_.row_tiles * tiling_.rows, tiling_.rows, left_.across);
        const Range columns = clipped(tile / tiling_.row_tiles * tiling_.columns, tiling_.columns, right_.across);
        auto* left = scratch.take<float>(left_floats());
        auto* right = scratch.take<float>(right_floats());
        auto* sums = scratch.take<float>(tiling_.rows * tiling_.columns);
        for (std::int64_t pass = 0; pass < passes_; ++pass) {
            const Range depth = clipped(pass * kDepthPerPass, kDepthPerPass, left_.depth);
            pack_panels(left, part_of(left_, rows, depth), kernel_.left());
            if (passes_ > 1 || packed_column != columns.begin) {
                pack_panels(right, part_of(right_, columns, depth), kernel_.right());
            }
            multiply_pass(pass, rows, columns, words_for(kernel_.word, depth.count), left, right, sums);
        }
        packed_column = columns.begin;
    }

   private:
    static Range clipped(std::int64_t begin, std::int64_t count, std::int64_t total) {
        return {begin, std::min(count, total - begin)};
    }
    [[nodiscard]] std::int64_t left_floats() const {
        return packed_floats(kernel_.left(), tiling_.rows, std::min(left_.depth, kDepthPerPass));
    }
    [[nodiscard]] std::int64_t right_floats() const {
        return packed_floats(kernel_.right(), tiling_.columns, std::min(left_.depth, kDepthPerPass));
    }

    /// Sums lie register tile by register tile; after the last pass each is finished at once, still in the first-level
    /// cache.
    void multiply_pass(std::int64_t pass, Range rows, Range columns, std::int64_t words, const float* left,
                       const float* right, float* sums) const {
        const Write write = pass == 0 ? Write::kOverwrite : Write::kAccumulate;
        const std::int64_t tile_floats = kernel_.rows * kernel_.columns;
        for (std::int64_t j = 0; j < columns.count; j += kernel_.columns) {
            for (std::int64_t i = 0; i < rows.count; i += kernel_.rows) {
                kernel_.multiply(words, left + i * words, right + j * words, sums, kernel_.columns, write);
                if (pass + 1 == passes_) {
                    store_(y_, operation_,
                           {.sums = sums,
                            .stride = kernel_.columns,
                            .row = rows.begin + i,
                            .column = columns.begin + j,
                            .rows = std::min(kernel_.rows, rows.count - i),
                            .columns = std::min(kernel_.columns, columns.count - j)});
                }
                if (passes_ > 1) sums += tile_floats;  // a single pass finishes each tile in the same place
            }
        }
    }

    const MicroKernel& kernel_;
    const Tensor& y_;
    const Matmul& operation_;
    PackSource<T> left_;
    PackSource<T> right_;
    StoreTile store_;
    Tiling tiling_;
    std::int64_t passes_;
};

/// A sum over nothing: every element is 0 before the epilogue.
void store_zero_sums(const Tensor& y, const Matmul& operation) {
    constexpr std::int64_t kColumns = 64;
    const float sums[kColumns] = {};
    const StoreTile store = choose_store_tile(y, operation);
    for (std::int64_t j = 0; j < y.columns; j += kColumns) {
        store(y, operation,
              {.sums = sums,
               .stride = 0,
               .row = 0,
               .column = j,
               .rows = y.rows,
               .columns = std::min(kColumns, y.columns - j)});
    }
}

template <class T>
void multiply_tiled(Workspace& workspace, const MicroKernel& kernel, const Tensor& y, const Matmul& operation) {
    const TiledProduct<T> product(kernel, y, operation, workspace.threads());
    workspace.reserve_per_thread(product.scratch_bytes());
#pragma omp parallel num_threads(workspace.threads()) if (product.tiles() > 1 && workspace.threads() > 1)
    {
        const Scratch scratch = workspace.of_thread(omp_get_thread_num());
        std::int64_t packed_column = -1;
#pragma omp for schedule(dynamic, 1)
        for (std::int64_t tile = 0; tile < product.tiles(); ++tile) product.run_tile(tile, scratch, packed_column);
    }
}

}  // namespace

void multiply(Workspace& workspace, const MicroKernel& kernel, const Tensor& y, const Matmul& operation) {
    if (y.elements() == 0) return;
    const std::int64_t depth = operation.transpose_a == Transpose::kYes ? operation.a.rows : operation.a.columns;
    if (depth == 0) {
        store_zero_sums(y, operation);
    } else if (y.rows <= kFewRows) {
        multiply_few_rows(workspace, y, operation);
    } else {
        with_element_type(operation.a.type, [&]<class T>(T) { multiply_tiled<T>(workspace, kernel, y, operation); });
    }
}

void multiply_panels(const MicroKernel& kernel, std::int64_t a_panels, std::int64_t b_panels, std::int64_t depth,
                     const float* a, const float* b, float* c, std::int64_t stride, Write write) {
    const std::int64_t words = words_for(kernel.word, depth);
    for (std::int64_t j = 0; j < b_panels; ++j) {
        for (std::int64_t i = 0; i < a_panels; ++i) {
            kernel.multiply(words, a + i * kernel.rows * words, b + j * kernel.columns * words,
                            c + i * kernel.rows * stride + j * kernel.columns, stride, write);
        }
    }
}

}  // namespace duologue::cpu
