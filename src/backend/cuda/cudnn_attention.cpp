// From the back end's attention to cuDNN's: packing, room, plans.
#include "backend/cuda/cudnn_attention.h"

#include <algorithm>

#include "backend/cuda/attention_packing.h"
#include "backend/cuda/buckets.h"
#include "backend/cuda/check.h"
#include "duologue/core/arena.h"

namespace duologue::cuda {

namespace {

static_assert(kTileRows == kCudnnTileRows, "tiled packing is made for cuDNN's tiles");

constexpr std::int64_t kSlotMultiple = 8;  // of calls whose packing is ours to choose: fewer plans

std::int64_t plan_length(const Offsets& offsets) {
    return rounded_up(std::max<std::int64_t>(offsets.max_length, 1), kCudnnTileRows);
}

void require_takes(const Attention& operation) {
    require(operation.q.type == DataType::kBf16, ErrorCode::kConfiguration,
            "device.attention = cudnn takes train.precision = bf16 only; use device.attention = auto or own");
    const std::int64_t columns = operation.q.columns / operation.heads;
    require(columns % kCudnnHeadMultiple == 0, ErrorCode::kConfiguration,
            "heads of {} columns (model.width / model.heads); cuDNN's attention takes multiples of {}, use "
            "device.attention = own for others",
            columns, kCudnnHeadMultiple);
}

// Rows that cuDNN reads as they lie.
void require_aligned(std::initializer_list<Tensor> tensors) {
    for (const Tensor& tensor : tensors) {
        const bool aligned = reinterpret_cast<std::uintptr_t>(tensor.data) % 16 == 0 &&
                             tensor.row_stride * size_of(tensor.type) % 16 == 0;
        require(aligned, ErrorCode::kInternal,
                "tiled attention of rows {} elements apart that are not aligned to 16 bytes", tensor.row_stride);
    }
}

PackedOrder allocate_order(Arena& arena, std::int64_t slots) {
    const auto wide = static_cast<std::int64_t>(sizeof(std::int64_t));
    return {.offsets = arena.allocate_vector(DataType::kU8, kOffsetArrays * (slots + 1) * wide).as<std::int64_t>(),
            .q_lengths = arena.allocate_vector(DataType::kI32, slots).as<std::int32_t>(),
            .kv_lengths = arena.allocate_vector(DataType::kI32, slots).as<std::int32_t>(),
            .q_rows = arena.allocate_vector(DataType::kI32, slots + 1).as<std::int32_t>(),
            .kv_rows = arena.allocate_vector(DataType::kI32, slots + 1).as<std::int32_t>(),
            .seed = arena.allocate_vector(DataType::kU8, 2 * wide).as<std::int64_t>()};
}

// The operands as cuDNN sees them: the caller's, or copies in rows of our own.
struct Operands {
    Tensor q;
    Tensor k;
    Tensor v;
    Tensor y;
    Tensor stats;
    Tensor dy;
    Tensor dq;
    Tensor dk;
    Tensor dv;
};

// What a call needs beside its operands; allocated once to measure and once to use.
struct Room {
    PackedOrder order;
    Operands operands;
    Tensor padded_stats;
    Tensor workspace;
};

enum class Moves : std::uint8_t { kIn, kOut };

// One call: its room, and the rows it moves in and out where the packing is ours.
class Call {
   public:
    /// `given` are the caller's operands; in tiled packing all but dq are used as they lie.
    Call(const Launch& launch, const Attention& operation, const AttentionDescription& plan, const Operands& given,
         StatsLayout stats_layout)
        : launch_(launch),
          operation_(operation),
          plan_(plan),
          given_(given),
          stats_layout_(stats_layout),
          shape_(cudnn_shape(operation)) {}

    /// What allocate() takes.
    [[nodiscard]] std::int64_t bytes(std::int64_t workspace_bytes) const {
        Arena measuring;
        (void)allocate(measuring, workspace_bytes);
        return measuring.peak_bytes();
    }

    void run(const CudnnPlan& plan, const CudnnHandle& handle, Arena memory, const Tensor& mask_dump) const {
        const Room room = allocate(memory, plan.workspace_bytes());
        prepare(room);
        plan.execute(handle.get(), addresses(room, mask_dump));
        finish(room);
    }

   private:
    [[nodiscard]] Room allocate(Arena& arena, std::int64_t workspace_bytes) const {
        Room room{
            .order = allocate_order(arena, shape_.slots), .operands = given_, .padded_stats = {}, .workspace = {}};
        Operands& at = room.operands;
        if (shape_.packing == Packing::kPlain) {
            at.q = rows(arena, shape_.q_rows);
            at.k = rows(arena, shape_.kv_rows);
            at.v = rows(arena, shape_.kv_rows);
            at.y = rows(arena, shape_.q_rows);
            at.stats = arena.allocate(DataType::kF32, shape_.q_rows, operation_.heads);
        }
        if (backward() && shape_.packing == Packing::kPlain) {
            at.dy = rows(arena, shape_.q_rows);
            at.dk = rows(arena, shape_.kv_rows);
            at.dv = rows(arena, shape_.kv_rows);
        }
        // Gradients that are summed in f32 on the way take room by the distance of dq's rows, so dq's are packed.
        if (backward() && !takes_dq()) at.dq = rows(arena, shape_.q_rows);
        if (backward() && stats_layout_ == StatsLayout::kPadded) {
            room.padded_stats = arena.allocate(DataType::kF32, shape_.slots * operation_.heads, plan_.max_q_length);
        }
        room.workspace = arena.allocate_vector(DataType::kU8, workspace_bytes);
        return room;
    }

    // Offsets, lengths and the seed; in packing of our own the inputs' rows, too.
    void prepare(const Room& room) const {
        const Operands& at = room.operands;
        PackingOrder order{.packing = shape_.packing,
                           .q_offsets = operation_.q_offsets.values.as<std::int32_t>(),
                           .kv_offsets = operation_.kv_offsets.values.as<std::int32_t>(),
                           .sequences = operation_.q_offsets.sequences,
                           .slots = shape_.slots,
                           .dropout_site = operation_.dropout.site};
        order.strides[kQOffsets] = at.q.row_stride;
        order.strides[kKOffsets] = at.k.row_stride;
        order.strides[kVOffsets] = at.v.row_stride;
        order.strides[kYOffsets] = at.y.row_stride;
        order.strides[kStatsOffsets] = operation_.heads;
        order.strides[kDyOffsets] = at.dy.row_stride;
        order.strides[kDqOffsets] = at.dq.row_stride;
        order.strides[kDkOffsets] = at.dk.row_stride;
        order.strides[kDvOffsets] = at.dv.row_stride;
        check(order_packing(launch_, room.order, order), "attention's packing");
        if (shape_.packing == Packing::kPlain) move_in(room);
        if (!room.padded_stats.empty()) {
            check(pad_stats(launch_, {.to = room.padded_stats.as<float>(),
                                      .from = at.stats.as<float>(),
                                      .offsets = room.order.q_rows,
                                      .sequences = shape_.slots,
                                      .heads = operation_.heads,
                                      .max_length = plan_.max_q_length}),
                  "attention's stats");
        }
    }

    [[nodiscard]] AttentionAddresses addresses(const Room& room, const Tensor& mask_dump) const {
        const Operands& at = room.operands;
        return {.q = at.q.data,
                .k = at.k.data,
                .v = at.v.data,
                .y = at.y.data,
                .stats = room.padded_stats.empty() ? at.stats.data : room.padded_stats.data,
                .dy = at.dy.data,
                .dq = at.dq.data,
                .dk = at.dk.data,
                .dv = at.dv.data,
                .offsets = room.order.offsets,
                .q_lengths = room.order.q_lengths,
                .kv_lengths = room.order.kv_lengths,
                .seed = room.order.seed,
                .mask_dump = mask_dump.data,
                .workspace = room.workspace.data};
    }

    // Results to where the caller wants them.
    void finish(const Room& room) const {
        const Operands& at = room.operands;
        if (shape_.packing == Packing::kTiled) {
            if (backward() && !takes_dq()) copy_rows(given_.dq, at.dq);
            return;
        }
        if (backward()) {
            move(Moves::kOut, at.dq, given_.dq, operation_.q_offsets, room.order.q_rows);
            move(Moves::kOut, at.dk, given_.dk, operation_.kv_offsets, room.order.kv_rows);
            move(Moves::kOut, at.dv, given_.dv, operation_.kv_offsets, room.order.kv_rows);
        } else {
            move(Moves::kOut, at.y, given_.y, operation_.q_offsets, room.order.q_rows);
            if (!given_.stats.empty()) {
                move(Moves::kOut, at.stats, given_.stats, operation_.q_offsets, room.order.q_rows);
            }
        }
    }

    // Whether the caller's dq is what cuDNN writes.
    [[nodiscard]] bool takes_dq() const {
        return shape_.packing == Packing::kTiled && !given_.dq.empty() && given_.dq.contiguous();
    }
    [[nodiscard]] bool backward() const { return plan_.pass == AttentionPass::kBackward; }

    [[nodiscard]] Tensor rows(Arena& arena, std::int64_t count) const {
        return arena.allocate(DataType::kBf16, count, operation_.q.columns);
    }

    void move_in(const Room& room) const {
        const Operands& at = room.operands;
        move(Moves::kIn, at.q, given_.q, operation_.q_offsets, room.order.q_rows);
        move(Moves::kIn, at.k, given_.k, operation_.kv_offsets, room.order.kv_rows);
        move(Moves::kIn, at.v, given_.v, operation_.kv_offsets, room.order.kv_rows);
        if (!backward()) return;
        move(Moves::kIn, at.y, given_.y, operation_.q_offsets, room.order.q_rows);
        move(Moves::kIn, at.dy, given_.dy, operation_.q_offsets, room.order.q_rows);
        move(Moves::kIn, at.stats, given_.stats, operation_.q_offsets, room.order.q_rows);
    }

    // What lies between and behind the rows that are moved in is 0.
    void move(Moves moves, const Tensor& ours, const Tensor& given, const Offsets& offsets,
              const std::int32_t* rows) const {
        const auto* values = offsets.values.as<std::int32_t>();
        const bool in = moves == Moves::kIn;
        if (in) {
            check(cudaMemsetAsync(ours.data, 0, static_cast<std::size_t>(ours.bytes()), launch_.stream),
                  "attention's rows");
        }
        check(move_rows(launch_, {.to = in ? ours : given,
                                  .from = in ? given : ours,
                                  .to_offsets = in ? rows : values,
                                  .from_offsets = in ? values : rows,
                                  .lengths_of = values,
                                  .sequences = offsets.sequences,
                                  .max_length = offsets.max_length}),
              "attention's rows");
    }

    void copy_rows(const Tensor& to, const Tensor& from) const {
        const auto element = size_of(from.type);
        const auto bytes = [&](std::int64_t elements) { return static_cast<std::size_t>(elements * element); };
        check(cudaMemcpy2DAsync(to.data, bytes(std::max(to.row_stride, to.columns)), from.data, bytes(from.columns),
                                bytes(from.columns), static_cast<std::size_t>(from.rows), cudaMemcpyDeviceToDevice,
                                launch_.stream),
              "attention's rows");
    }

    const Launch& launch_;
    const Attention& operation_;
    const AttentionDescription& plan_;
    const Operands& given_;
    StatsLayout stats_layout_;
    CudnnShape shape_;
};

}  // namespace

CudnnShape cudnn_shape(const Attention& operation) {
    const std::int64_t sequences = operation.q_offsets.sequences;
    if (operation.q_offsets.packing == Packing::kTiled && operation.kv_offsets.packing == Packing::kTiled) {
        return {
            .packing = Packing::kTiled, .slots = sequences, .q_rows = operation.q.rows, .kv_rows = operation.k.rows};
    }
    // A row for each slot that might have none, and a whole tile behind the last row.
    const std::int64_t slots = rounded_up(std::max<std::int64_t>(sequences, 1), kSlotMultiple);
    const std::int64_t more = slots + kCudnnTileRows;
    return {.packing = Packing::kPlain,
            .slots = slots,
            .q_rows = rounded_up(operation.q.rows + more, kCudnnTileRows),
            .kv_rows = rounded_up(operation.k.rows + more, kCudnnTileRows)};
}

AttentionDescription describe(const Attention& operation, AttentionPass pass, Deterministic deterministic) {
    const CudnnShape shape = cudnn_shape(operation);
    const std::int64_t width = operation.q.columns;
    const bool as_it_lies = shape.packing == Packing::kTiled;
    AttentionDescription plan{.pass = pass,
                              .sequences = shape.slots,
                              .heads = operation.heads,
                              .head_columns = width / operation.heads,
                              .max_q_length = plan_length(operation.q_offsets),
                              .max_kv_length = plan_length(operation.kv_offsets),
                              .q_stride = as_it_lies ? operation.q.row_stride : width,
                              .k_stride = as_it_lies ? operation.k.row_stride : width,
                              .v_stride = as_it_lies ? operation.v.row_stride : width,
                              .y_stride = width,
                              .causal = operation.causal,
                              .scale = operation.scale,
                              .dropout = operation.dropout.probability};
    if (pass != AttentionPass::kBackward) return plan;
    plan.most_q_rows = bucket_of(shape.q_rows);
    plan.most_kv_rows = bucket_of(shape.kv_rows);
    plan.dy_stride = width;
    plan.dk_stride = plan.k_stride;
    plan.dv_stride = plan.v_stride;
    plan.deterministic = deterministic;
    return plan;
}

CudnnAttention::CudnnAttention(const Launch& launch, int capability, Deterministic deterministic)
    : launch_(launch), capability_(capability), deterministic_(deterministic), handle_(launch.stream) {}

const CudnnPlan& CudnnAttention::plan_of(const AttentionDescription& description) {
    const auto found = plans_.find(description);
    if (found != plans_.end()) return found->second;
    return plans_.emplace(description, CudnnPlan(description, capability_, handle_.get())).first->second;
}

void CudnnAttention::forward(const Tensor& y, const Tensor& stats, const Attention& operation,
                             const Tensor& mask_dump) {
    require_takes(operation);
    if (operation.q.rows == 0) return;
    const auto pass = stats.empty() ? AttentionPass::kForward : AttentionPass::kForwardWithStats;
    AttentionDescription description = describe(operation, pass, deterministic_);
    if (!mask_dump.empty()) description.mask_dump = MaskDump::kYes;
    if (cudnn_shape(operation).packing == Packing::kTiled) {
        description.y_stride = y.row_stride;
        require_aligned({operation.q, operation.k, operation.v, y});
    }
    const Operands given{.q = operation.q, .k = operation.k, .v = operation.v, .y = y, .stats = stats};
    const CudnnPlan& plan = plan_of(description);
    const Call call(launch_, operation, description, given, backward_stats(capability_));
    const std::int64_t bytes = call.bytes(plan.workspace_bytes());
    require(bytes <= launch_.workspace.bytes, ErrorCode::kDevice,
            "{} takes {} bytes of workspace, there are {}; make micro-batches smaller (data.micro_batch_tokens) or "
            "choose device.attention=own",
            told(description), bytes, launch_.workspace.bytes);
    call.run(plan, handle_, Arena(launch_.workspace.data, launch_.workspace.bytes), mask_dump);
}

void CudnnAttention::backward(const AttentionGradients& gradients, const Tensor& scratch, const Attention& operation,
                              const Tensor& mask_dump) {
    require_takes(operation);
    if (operation.q_offsets.sequences == 0 || (operation.q.rows == 0 && operation.k.rows == 0)) return;
    AttentionDescription description = describe(operation, AttentionPass::kBackward, deterministic_);
    if (!mask_dump.empty()) description.mask_dump = MaskDump::kYes;
    const Operands given{.q = operation.q,
                         .k = operation.k,
                         .v = operation.v,
                         .y = gradients.y,
                         .stats = gradients.stats,
                         .dy = gradients.dy,
                         .dq = gradients.dq,
                         .dk = gradients.dk,
                         .dv = gradients.dv};
    if (cudnn_shape(operation).packing == Packing::kTiled) {
        description.y_stride = gradients.y.row_stride;
        description.dy_stride = gradients.dy.row_stride;
        description.dk_stride = gradients.dk.row_stride;
        description.dv_stride = gradients.dv.row_stride;
        require_aligned({given.q, given.k, given.v, given.y, given.dy, given.dq, given.dk, given.dv});
    }
    const CudnnPlan& plan = plan_of(description);
    Call(launch_, operation, description, given, backward_stats(capability_))
        .run(plan, handle_, Arena(scratch.data, scratch.bytes()), mask_dump);
}

std::int64_t CudnnAttention::scratch_bytes(const Attention& operation) {
    require_takes(operation);
    const AttentionDescription description = describe(operation, AttentionPass::kBackward, deterministic_);
    return Call(launch_, operation, description, {}, backward_stats(capability_))
        .bytes(plan_of(description).workspace_bytes());
}

}  // namespace duologue::cuda
