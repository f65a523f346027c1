// Embedding: rows gathered forward; backward their gradients summed per word in a fixed order, by sorting the rows.
#include <cub/device/device_radix_sort.cuh>

#include "backend/cuda/launch.cuh"

namespace duologue::cuda {

namespace {

constexpr int kThreads = 128;
constexpr int kBlocksPerMultiprocessor = 16;
constexpr std::int64_t kRun = 64;         // sorted rows of a block in the backward pass
constexpr std::int64_t kAlignment = 256;  // bytes, of the workspace's parts

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
__global__ void __launch_bounds__(kThreads) embedding_forward_kernel(ForwardOperands<T> at) {
    const std::int64_t octets = (at.width + kOctet - 1) / kOctet;
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
    const DropoutMask mask = mask_of(at.draw);
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < at.rows * octets;
         i += stride) {
        const std::int64_t row = i / octets;
        const std::int64_t column = i % octets * kOctet;
        const std::int64_t count = at.width - column;
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
};

// A run is kRun sorted rows. A key whose rows all lie inside the run goes to its place in dtable; a key that continues
// from the run before goes to the run's first border, one that only continues in the run after to its second.
template <Access kAccess, class T>
__global__ void __launch_bounds__(kThreads) sum_runs_kernel(SortedRows<T> at) {
    const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * kRun;
    const std::int64_t end = min(begin + kRun, at.count);
    const std::int64_t column = (static_cast<std::int64_t>(blockIdx.y) * kThreads + threadIdx.x) * kOctet;
    const std::int64_t count = at.width - column;
    if (count <= 0) return;
    float* border = at.borders + static_cast<std::int64_t>(blockIdx.x) * 2 * at.width + column;
    const DropoutMask mask = mask_of(at.draw);
    Octet sums = octet_of(0.0F);
    std::int64_t first = begin;  // of the present key
    for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t index = at.rows[i] * at.width + column;
        const Octet dy = load_octet<kAccess>(at.dy + index, count);
        const Octet factors = dropout_factors<kAccess>(mask, index);
#pragma unroll
        for (int j = 0; j < kOctet; ++j) sums.v[j] = fmaf(factors.v[j], dy.v[j], sums.v[j]);
        const bool key_ends = i + 1 == at.count || at.keys[i + 1] != at.keys[i];
        if (!key_ends && i + 1 < end) continue;
        const bool key_began_before = first == begin && begin > 0 && at.keys[begin - 1] == at.keys[begin];
        if (key_began_before) {
            store_octet<kAccess>(border, sums, count);
        } else if (!key_ends) {
            store_octet<kAccess>(border + at.width, sums, count);
        } else {
            float* to = at.dtable + at.keys[i] * at.width + column;
            Octet total = load_octet<kAccess>(to, count);
#pragma unroll
            for (int j = 0; j < kOctet; ++j) total.v[j] = fmaf(at.scale, sums.v[j], total.v[j]);
            store_octet<kAccess>(to, total, count);
        }
        sums = octet_of(0.0F);
        first = i + 1;
    }
}

// The keys that begin in one run and end in a later one: run by run.
template <Access kAccess, class T>
__global__ void __launch_bounds__(kThreads) sum_borders_kernel(SortedRows<T> at) {
    const std::int64_t run = blockIdx.x;
    const std::int64_t end = (run + 1) * kRun;
    const std::int64_t column = (static_cast<std::int64_t>(blockIdx.y) * kThreads + threadIdx.x) * kOctet;
    const std::int64_t count = at.width - column;
    if (count <= 0 || end >= at.count || at.keys[end] != at.keys[end - 1]) return;
    const std::int32_t key = at.keys[end - 1];
    const bool began_before = run > 0 && at.keys[run * kRun] == key && at.keys[run * kRun - 1] == key;
    if (began_before) return;
    Octet sums = load_octet<kAccess>(at.borders + (run * 2 + 1) * at.width + column, count);
    for (std::int64_t next = run + 1; next * kRun < at.count && at.keys[next * kRun] == key; ++next) {
        const Octet more = load_octet<kAccess>(at.borders + next * 2 * at.width + column, count);
#pragma unroll
        for (int j = 0; j < kOctet; ++j) sums.v[j] += more.v[j];
    }
    float* to = at.dtable + key * at.width + column;
    Octet total = load_octet<kAccess>(to, count);
#pragma unroll
    for (int j = 0; j < kOctet; ++j) total.v[j] = fmaf(at.scale, sums.v[j], total.v[j]);
    store_octet<kAccess>(to, total, count);
}

std::int64_t aligned(std::int64_t bytes) { return rounded_up(bytes, kAlignment); }

// The workspace of a backward pass: rows numbered, sorted keys, sorted rows, borders, and what the sort itself takes.
struct BackwardRoom {
    std::int64_t numbers_bytes = 0;  // of each of the first three
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
    BackwardRoom room{.numbers_bytes = aligned(rows * static_cast<std::int64_t>(sizeof(std::int32_t))),
                      .borders_bytes = aligned(divided_up(rows, kRun) * 2 * columns * 4)};
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
                                   .width = width};
            const dim3 grid(static_cast<unsigned>(divided_up(rows, kRun)),
                            static_cast<unsigned>(divided_up(width, kThreads * kOctet)));
            const LaunchShape shape{grid, kThreads};
            const cudaError_t ran = launch_kernel(launch.stream, shape, sum_runs_kernel<kAccess, T>, at);
            if (ran != cudaSuccess) return ran;
            return launch_kernel(launch.stream, shape, sum_borders_kernel<kAccess, T>, at);
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
            const std::int64_t octets = y.rows * divided_up(y.columns, kOctet);
            const unsigned grid = grid_for(launch, octets, kThreads, kBlocksPerMultiprocessor);
            return launch_kernel(launch.stream, {grid, kThreads}, embedding_forward_kernel<decltype(access)::kValue, T>,
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
