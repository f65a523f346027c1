// Embedding: rows gathered forward; backward their gradients summed per word in a fixed order, by sorting the rows.
#include <cub/device/device_radix_sort.cuh>

#include "backend/cuda/launch.cuh"

namespace duologue::cuda {

namespace {

constexpr int kThreads = 128;
constexpr int kForwardBlocks = 10;         // of a multiprocessor at once, for up to a block's columns
constexpr int kBatch = 4;                  // rows that a thread of the backward pass loads at once
constexpr int kBorderGroups = kOctet;      // of runs, whose borders are summed side by side
constexpr std::int64_t kShortestRun = 16;  // sorted rows of a thread in the backward pass
constexpr std::int64_t kMostBorderBytes = std::int64_t{32} << 20;  // longer runs have fewer borders
constexpr std::int64_t kAlignment = 256;                           // bytes, of the workspace's parts

// Threads (lane, row): whole warps have an octet each of the same row.
dim3 block_of(std::int64_t width) {
    const std::int64_t wanted = rounded_up(divided_up(width, kOctet), kWarp);
    const auto lanes = static_cast<unsigned>(std::min<std::int64_t>(wanted, kThreads));
    return {lanes, kThreads / lanes};
}

template <class T>
struct ForwardOperands {
    T* y;
    const std::int32_t* tokens;
    const std::int32_t* positions;
    const T* table;
    const T* position_table;
    DropoutDraw draw;
    float scale;
    std::int64_t rows;
    std::int64_t width;
};

template <Access kAccess, class T>
__global__ void __launch_bounds__(kThreads, kForwardBlocks) embedding_forward_kernel(ForwardOperands<T> at) {
    const std::int64_t column = (static_cast<std::int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * kOctet;
    const std::int64_t count = at.width - column;
    if (count <= 0) return;
    const DropoutMask mask = mask_of(at.draw);
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.y;
    for (std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; row < at.rows;
         row += stride) {
        Octet value = load_octet<kAccess>(at.table + at.tokens[row] * at.width + column, count);
        const Octet position = load_octet<kAccess>(at.position_table + at.positions[row] * at.width + column, count);
        const Octet factors = dropout_factors<kAccess>(mask, row * at.width + column);
#pragma unroll
        for (int j = 0; j < kOctet; ++j) value.v[j] = factors.v[j] * fmaf(at.scale, value.v[j], position.v[j]);
        store_octet<kAccess>(at.y + row * at.width + column, value, count);
    }
}

__global__ void __launch_bounds__(kThreads) number_rows_kernel(std::int32_t* numbers, std::int64_t rows) {
    const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (i < rows) numbers[i] = static_cast<std::int32_t>(i);
}

// The rows of dy in the order of their keys (words or positions), equal keys in the order of the rows.
template <class T>
struct SortedRows {
    float* dtable;
    float* borders;  // [runs][2][width]: sums of the key that a run begins with, and of the key that it ends with
    const std::int32_t* keys;
    const std::int32_t* rows;
    const T* dy;
    DropoutDraw draw;
    float scale;
    std::int64_t count;
    std::int64_t width;
    std::int64_t run;  // rows of a run
};

// Rows [first, first + kBatch) of those before `end`, loaded before any is used.
struct RowBatch {
    Octet dy[kBatch];
    std::int64_t indices[kBatch];    // of their first elements in dy
    std::int32_t next_keys[kBatch];  // of the row after each; -1 after the last of all
};

template <Access kAccess, class T>
__device__ __forceinline__ RowBatch batch_at(const SortedRows<T>& at, std::int64_t first, std::int64_t end,
                                             std::int64_t column) {
    RowBatch batch;
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
        const std::int64_t i = min(first + k, end - 1);
        batch.indices[k] = at.rows[i] * at.width + column;
        batch.next_keys[k] = i + 1 < at.count ? at.keys[i + 1] : -1;
    }
#pragma unroll
    for (int k = 0; k < kBatch; ++k) batch.dy[k] = load_octet<kAccess>(at.dy + batch.indices[k], at.width - column);
    return batch;
}

template <Access kAccess>
__device__ __forceinline__ void add_scaled(float* to, float scale, const Octet& sums, std::int64_t count) {
    Octet total = load_octet<kAccess>(to, count);
#pragma unroll
    for (int j = 0; j < kOctet; ++j) total.v[j] = fmaf(scale, sums.v[j], total.v[j]);
    store_octet<kAccess>(to, total, count);
}

// A key whose rows all lie inside of its run goes to its place in dtable; a key that continues from the run before goes
// to the run's first border, one that only continues in the run after to its second.
template <Access kAccess, class T>
__global__ void __launch_bounds__(kThreads) sum_runs_kernel(SortedRows<T> at) {
    const std::int64_t run = static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
    const std::int64_t begin = run * at.run;
    const std::int64_t end = min(begin + at.run, at.count);
    const std::int64_t column = (static_cast<std::int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * kOctet;
    const std::int64_t count = at.width - column;
    if (count <= 0 || begin >= end) return;
    const DropoutMask mask = mask_of(at.draw);
    float* border = at.borders + run * 2 * at.width + column;
    std::int32_t key = at.keys[begin];
    bool began_before = begin > 0 && at.keys[begin - 1] == key;
    Octet sums = octet_of(0.0F);
    for (std::int64_t first = begin; first < end; first += kBatch) {
        const RowBatch batch = batch_at<kAccess>(at, first, end, column);
#pragma unroll
        for (int k = 0; k < kBatch; ++k) {
            if (first + k >= end) break;
            const Octet factors = dropout_factors<kAccess>(mask, batch.indices[k]);
#pragma unroll
            for (int j = 0; j < kOctet; ++j) sums.v[j] = fmaf(factors.v[j], batch.dy[k].v[j], sums.v[j]);
            const bool key_ends = batch.next_keys[k] != key;
            if (!key_ends && first + k + 1 < end) continue;
            if (began_before) {
                store_octet<kAccess>(border, sums, count);
            } else if (!key_ends) {
                store_octet<kAccess>(border + at.width, sums, count);
            } else {
                add_scaled<kAccess>(at.dtable + key * at.width + column, at.scale, sums, count);
            }
            sums = octet_of(0.0F);
            key = batch.next_keys[k];
            began_before = false;
        }
    }
}

// The first borders of the runs after `run` that go on with `key`: of every kBorderGroups-th of them.
template <Access kAccess, class T>
__device__ __forceinline__ Octet group_sum(const SortedRows<T>& at, std::int64_t run, std::int32_t key,
                                           std::int64_t column) {
    Octet sums = octet_of(0.0F);
    bool more = true;
    for (std::int64_t first = run + 1 + threadIdx.y; more; first += kBatch * kBorderGroups) {
        bool goes_on[kBatch];
#pragma unroll
        for (int k = 0; k < kBatch; ++k) {
            const std::int64_t row = (first + k * kBorderGroups) * at.run;
            goes_on[k] = row < at.count && at.keys[row] == key;
        }
#pragma unroll
        for (int k = 0; k < kBatch; ++k) {
            if (!goes_on[k]) continue;
            const float* border = at.borders + (first + k * kBorderGroups) * 2 * at.width + column;
            const Octet next = load_octet<kAccess>(border, at.width - column);
#pragma unroll
            for (int j = 0; j < kOctet; ++j) sums.v[j] += next.v[j];
        }
        more = goes_on[kBatch - 1];
    }
    return sums;
}

// The keys that begin in one run and end in a later one. Threads (lane, group): a lane has an octet of columns; the
// groups take the runs in turn, and are then summed one after the other.
template <Access kAccess, class T>
__global__ void __launch_bounds__(kWarp* kBorderGroups) sum_borders_kernel(SortedRows<T> at) {
    __shared__ float shared[kBorderGroups][kOctet][kWarp];
    const std::int64_t run = blockIdx.x;
    const std::int64_t begin = run * at.run;
    const std::int64_t end = begin + at.run;
    if (end >= at.count || at.keys[end] != at.keys[end - 1]) return;
    const std::int32_t key = at.keys[end - 1];
    const bool began_before = run > 0 && at.keys[begin] == key && at.keys[begin - 1] == key;
    if (began_before) return;
    const std::int64_t first = (static_cast<std::int64_t>(blockIdx.y) * kWarp + threadIdx.x) * kOctet;
    const Octet sums = first < at.width ? group_sum<kAccess>(at, run, key, first) : octet_of(0.0F);
#pragma unroll
    for (int j = 0; j < kOctet; ++j) shared[threadIdx.y][j][threadIdx.x] = sums.v[j];
    __syncthreads();
    // Thread (lane, j) finishes column j of the lane's octet.
    const std::int64_t column = first + threadIdx.y;
    if (column >= at.width) return;
    float total = at.borders[(run * 2 + 1) * at.width + column];
    for (int group = 0; group < kBorderGroups; ++group) total += shared[group][threadIdx.y][threadIdx.x];
    float* to = at.dtable + key * at.width + column;
    *to = fmaf(at.scale, total, *to);
}
static_assert(kBorderGroups == kOctet, "a block's groups finish the octet's columns");

std::int64_t aligned(std::int64_t bytes) { return rounded_up(bytes, kAlignment); }

// The workspace of a backward pass: rows numbered, sorted keys, sorted rows, borders, and what the sort itself takes.
struct BackwardRoom {
    std::int64_t numbers_bytes = 0;  // of each of the first three
    std::int64_t run = kShortestRun;
    std::int64_t borders_bytes = 0;
    std::size_t sort_bytes = 0;

    [[nodiscard]] std::int64_t bytes() const {
        return 3 * numbers_bytes + borders_bytes + static_cast<std::int64_t>(sort_bytes);
    }
};

constexpr int kKeyBits = 31;

cudaError_t sort_rows(void* room, std::size_t& room_bytes, const std::int32_t* keys, std::int32_t* sorted_keys,
                      const std::int32_t* numbers, std::int32_t* sorted_rows, std::int64_t rows, int bits,
                      cudaStream_t stream) {
    return cub::DeviceRadixSort::SortPairs(room, room_bytes, keys, sorted_keys, numbers, sorted_rows, rows, 0, bits,
                                           stream);
}

BackwardRoom room_of(std::int64_t rows, std::int64_t columns) {
    BackwardRoom room{.numbers_bytes = aligned(rows * static_cast<std::int64_t>(sizeof(std::int32_t)))};
    const auto borders_bytes = [&] {
        return aligned(divided_up(rows, room.run) * 2 * columns * static_cast<std::int64_t>(sizeof(float)));
    };
    while (room.run < rows && borders_bytes() > kMostBorderBytes) room.run *= 2;
    room.borders_bytes = borders_bytes();
    const cudaError_t status =
        sort_rows(nullptr, room.sort_bytes, nullptr, nullptr, nullptr, nullptr, rows, kKeyBits, nullptr);
    if (status != cudaSuccess) room.sort_bytes = 0;  // the sort itself will tell
    return room;
}

int bits_of(std::int64_t keys) {
    int bits = 1;
    while (bits < kKeyBits && (std::int64_t{1} << bits) < keys) ++bits;
    return bits;
}

// dtable[key] += scale * dy through the dropout, for the rows' keys.
cudaError_t sum_rows_by_key(const Launch& launch, const Tensor& dtable, const Tensor& dy, const Tensor& keys,
                            const DropoutDraw& draw, float scale) {
    const std::int64_t rows = dy.rows;
    const std::int64_t width = dy.columns;
    BackwardRoom room = room_of(rows, width);
    auto* memory = static_cast<std::byte*>(launch.workspace.data);
    auto* numbers = reinterpret_cast<std::int32_t*>(memory);
    auto* sorted_keys = reinterpret_cast<std::int32_t*>(memory + room.numbers_bytes);
    auto* sorted_rows = reinterpret_cast<std::int32_t*>(memory + 2 * room.numbers_bytes);
    auto* borders = reinterpret_cast<float*>(memory + 3 * room.numbers_bytes);
    void* sort_room = memory + 3 * room.numbers_bytes + room.borders_bytes;
    const auto blocks = static_cast<unsigned>(divided_up(rows, kThreads));
    cudaError_t status = launch_kernel(launch.stream, {blocks, kThreads}, number_rows_kernel, numbers, rows);
    if (status != cudaSuccess) return status;
    status = sort_rows(sort_room, room.sort_bytes, keys.as<std::int32_t>(), sorted_keys, numbers, sorted_rows, rows,
                       bits_of(dtable.rows), launch.stream);
    if (status != cudaSuccess) return status;
    return with_access(access_of({dtable, dy}), [&](auto access) {
        return with_type(dy.type, [&](auto element) {
            using T = decltype(element);
            constexpr Access kAccess = decltype(access)::kValue;
            const SortedRows<T> at{.dtable = dtable.as<float>(),
                                   .borders = borders,
                                   .keys = sorted_keys,
                                   .rows = sorted_rows,
                                   .dy = dy.as<T>(),
                                   .draw = draw,
                                   .scale = scale,
                                   .count = rows,
                                   .width = width,
                                   .run = room.run};
            const dim3 block = block_of(width);
            const dim3 grid(static_cast<unsigned>(divided_up(rows, room.run * block.y)),
                            static_cast<unsigned>(divided_up(width, block.x * kOctet)));
            const cudaError_t ran = launch_kernel(launch.stream, {grid, block}, sum_runs_kernel<kAccess, T>, at);
            if (ran != cudaSuccess) return ran;
            const dim3 border_grid(static_cast<unsigned>(divided_up(rows, room.run)),
                                   static_cast<unsigned>(divided_up(width, kWarp * kOctet)));
            return launch_kernel(launch.stream, {border_grid, dim3(kWarp, kBorderGroups)},
                                 sum_borders_kernel<kAccess, T>, at);
        });
    });
}

}  // namespace

cudaError_t embedding_forward(const Launch& launch, const Tensor& y, const Embedding& operation) {
    if (y.elements() == 0) return cudaSuccess;
    return with_access(access_of({y, operation.table, operation.position_table}), [&](auto access) {
        return with_type(y.type, [&](auto element) {
            using T = decltype(element);
            const ForwardOperands<T> at{.y = y.as<T>(),
                                        .tokens = operation.tokens.as<std::int32_t>(),
                                        .positions = operation.positions.as<std::int32_t>(),
                                        .table = operation.table.as<T>(),
                                        .position_table = operation.position_table.as<T>(),
                                        .draw = draw_of(launch, operation.dropout),
                                        .scale = operation.scale,
                                        .rows = y.rows,
                                        .width = y.columns};
            const dim3 block = block_of(y.columns);
            const auto chunks = static_cast<unsigned>(divided_up(y.columns, block.x * kOctet));
            const dim3 grid(grid_for(launch, y.rows, static_cast<int>(block.y), kForwardBlocks), chunks);
            return launch_kernel(launch.stream, {grid, block}, embedding_forward_kernel<decltype(access)::kValue, T>,
                                 at);
        });
    });
}

std::int64_t embedding_workspace_bytes(std::int64_t rows, std::int64_t columns) {
    return room_of(rows, columns).bytes();
}

cudaError_t embedding_backward(const Launch& launch, const Tensor& dtable, const Tensor& dposition_table,
                               const Tensor& dy, const Embedding& operation) {
    if (dy.elements() == 0) return cudaSuccess;
    const DropoutDraw draw = draw_of(launch, operation.dropout);
    const cudaError_t status = sum_rows_by_key(launch, dtable, dy, operation.tokens, draw, operation.scale);
    if (status != cudaSuccess || dposition_table.empty()) return status;
    return sum_rows_by_key(launch, dposition_table, dy, operation.positions, draw, 1.0F);
}

}  // namespace duologue::cuda
