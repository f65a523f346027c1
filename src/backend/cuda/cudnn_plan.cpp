// Attention plans through cudnn-frontend: the only place that includes it.
#include "backend/cuda/cudnn_plan.h"

#include <cudnn_frontend.h>

#include <unordered_map>

#include "duologue/core/error.h"

namespace duologue::cuda {

namespace {

namespace fe = cudnn_frontend;

using Tensors = std::shared_ptr<fe::graph::Tensor_attributes>;

// The numbers by which a call names its tensors. From kFirstOffsets on they are OffsetArray's.
enum Uid : std::int64_t {
    kQ = 1,
    kK,
    kV,
    kY,
    kStats,
    kDy,
    kDq,
    kDk,
    kDv,
    kQLengths,
    kKvLengths,
    kSeed,
    kSeedOffset,
    kMask,
};
constexpr std::int64_t kFirstOffsets = kMask + 1;

/// A graph that tells what workspace its description alone asks for; what the compiled kernel takes comes on top.
class Graph : public fe::graph::Graph {
   public:
    [[nodiscard]] std::int64_t described_workspace_bytes() const { return get_fe_workspace_size_subtree(); }
};

/// A side of the attention: queries or keys.
struct Side {
    std::int64_t max_length;
    std::int64_t stride;
};

// Describes the tensors and the operation of one plan.
class GraphBuilder {
   public:
    GraphBuilder(const AttentionDescription& description, int capability)
        : at_(description), capability_(capability), graph_(std::make_shared<Graph>()) {
        graph_->set_io_data_type(fe::DataType_t::BFLOAT16)
            .set_intermediate_data_type(fe::DataType_t::FLOAT)
            .set_compute_data_type(fe::DataType_t::FLOAT)
            .set_sm_version(capability);  // operations take it over when they are added
    }

    std::shared_ptr<Graph> build() {
        if (at_.pass == AttentionPass::kBackward) {
            describe_backward();
        } else {
            describe_forward();
        }
        return graph_;
    }

   private:
    // Packed rows of one tensor; `tensor` is described in place.
    void describe_rows(const Tensors& tensor, Uid uid, OffsetArray offsets, const Side& side) {
        tensor->set_uid(uid)
            .set_dim({at_.sequences, at_.heads, side.max_length, at_.head_columns})
            .set_stride({side.max_length * side.stride, at_.head_columns, side.stride, 1})
            .set_ragged_offset(offsets_of(offsets));
    }

    Tensors input_rows(Uid uid, OffsetArray offsets, const Side& side) {
        Tensors tensor = graph_->tensor(fe::graph::Tensor_attributes().set_data_type(fe::DataType_t::BFLOAT16));
        describe_rows(tensor, uid, offsets, side);
        return tensor;
    }

    void output_rows(const Tensors& tensor, Uid uid, OffsetArray offsets, const Side& side) {
        tensor->set_output(true).set_data_type(fe::DataType_t::BFLOAT16);
        describe_rows(tensor, uid, offsets, side);
    }

    void describe_stats(const Tensors& tensor) {
        tensor->set_uid(kStats)
            .set_data_type(fe::DataType_t::FLOAT)
            .set_dim({at_.sequences, at_.heads, at_.max_q_length, 1});
        const std::int64_t all = at_.heads * at_.max_q_length;
        if (at_.pass == AttentionPass::kBackward && backward_stats(capability_) == StatsLayout::kPadded) {
            tensor->set_stride({all, at_.max_q_length, 1, 1});
        } else {
            tensor->set_stride({all, 1, at_.heads, 1}).set_ragged_offset(offsets_of(kStatsOffsets));
        }
    }

    Tensors numbers(std::int64_t uid, std::int64_t count, fe::DataType_t type) {
        return graph_->tensor(fe::graph::Tensor_attributes()
                                  .set_uid(uid)
                                  .set_dim({count, 1, 1, 1})
                                  .set_stride({1, 1, 1, 1})
                                  .set_data_type(type));
    }

    Tensors offsets_of(OffsetArray array) {
        return numbers(kFirstOffsets + array, at_.sequences + 1, fe::DataType_t::INT64);
    }

    // What both passes have in common. The padding mask is always set: without it rows behind a sequence's end count.
    template <class Attributes>
    void set_common(Attributes& attributes) {
        attributes.set_attn_scale(at_.scale)
            .set_padding_mask(true)
            .set_seq_len_q(numbers(kQLengths, at_.sequences, fe::DataType_t::INT32))
            .set_seq_len_kv(numbers(kKvLengths, at_.sequences, fe::DataType_t::INT32));
        if (at_.causal == Causal::kYes) {
            attributes.set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT).set_diagonal_band_right_bound(0);
        }
        if (at_.dropout > 0.0F) {
            attributes.set_dropout(at_.dropout, numbers(kSeed, 1, fe::DataType_t::INT64),
                                   numbers(kSeedOffset, 1, fe::DataType_t::INT64));
        }
        if (at_.mask_dump == MaskDump::kYes) attributes.set_rng_dump(mask());
    }

    Tensors mask() {
        const std::int64_t per_head = at_.max_q_length * at_.max_kv_length;
        return graph_->tensor(fe::graph::Tensor_attributes()
                                  .set_uid(kMask)
                                  .set_dim({at_.sequences, at_.heads, at_.max_q_length, at_.max_kv_length})
                                  .set_stride({at_.heads * per_head, per_head, at_.max_kv_length, 1})
                                  .set_data_type(fe::DataType_t::FLOAT));
    }

    void describe_forward() {
        auto attributes = fe::graph::SDPA_attributes()
                              .set_name("attention")
                              .set_generate_stats(at_.pass == AttentionPass::kForwardWithStats);
        set_common(attributes);
        const auto [y, stats] = graph_->sdpa(input_rows(kQ, kQOffsets, {at_.max_q_length, at_.q_stride}),
                                             input_rows(kK, kKOffsets, {at_.max_kv_length, at_.k_stride}),
                                             input_rows(kV, kVOffsets, {at_.max_kv_length, at_.v_stride}), attributes);
        output_rows(y, kY, kYOffsets, {at_.max_q_length, at_.y_stride});
        if (at_.pass != AttentionPass::kForwardWithStats) return;
        stats->set_output(true);
        describe_stats(stats);
    }

    void describe_backward() {
        auto attributes = fe::graph::SDPA_backward_attributes()
                              .set_name("attention gradients")
                              .set_deterministic_algorithm(at_.deterministic == Deterministic::kYes);
        set_common(attributes);
        if (backward_stats(capability_) == StatsLayout::kPacked && at_.head_columns % 16 == 0) {
            attributes.set_max_total_seq_len_q(at_.most_q_rows).set_max_total_seq_len_kv(at_.most_kv_rows);
        }
        const Tensors stats = graph_->tensor(fe::graph::Tensor_attributes());
        describe_stats(stats);
        const auto [dq, dk, dv] =
            graph_->sdpa_backward(input_rows(kQ, kQOffsets, {at_.max_q_length, at_.q_stride}),
                                  input_rows(kK, kKOffsets, {at_.max_kv_length, at_.k_stride}),
                                  input_rows(kV, kVOffsets, {at_.max_kv_length, at_.v_stride}),
                                  input_rows(kY, kYOffsets, {at_.max_q_length, at_.y_stride}),
                                  input_rows(kDy, kDyOffsets, {at_.max_q_length, at_.dy_stride}), stats, attributes);
        output_rows(dq, kDq, kDqOffsets, {at_.max_q_length, at_.heads * at_.head_columns});
        output_rows(dk, kDk, kDkOffsets, {at_.max_kv_length, at_.dk_stride});
        output_rows(dv, kDv, kDvOffsets, {at_.max_kv_length, at_.dv_stride});
    }

    const AttentionDescription& at_;
    int capability_;
    std::shared_ptr<Graph> graph_;
};

// The steps up to the answer whether cuDNN takes it.
fe::error_t accept(Graph& graph, cudnnHandle_t handle) {
    if (auto status = graph.validate(); status.is_bad()) return status;
    if (auto status = graph.build_operation_graph(handle); status.is_bad()) return status;
    if (auto status = graph.create_execution_plans({fe::HeurMode_t::A}); status.is_bad()) return status;
    return graph.check_support();
}

void check(fe::error_t status, const AttentionDescription& description, const char* what) {
    require(status.is_good(), ErrorCode::kDevice, "cuDNN {} {}: {}; choose device.attention=own", what,
            told(description), status.get_message());
}

void check(cudnnStatus_t status, const char* what) {
    require(status == CUDNN_STATUS_SUCCESS, ErrorCode::kDevice, "cuDNN failed in {}: {}", what,
            cudnnGetErrorString(status));
}

}  // namespace

CudnnHandle::CudnnHandle(CUstream_st* stream) {
    cudnnContext* context = nullptr;
    check(cudnnCreate(&context), "starting cuDNN");
    context_.reset(context);
    check(cudnnSetStream(context, stream), "setting cuDNN's stream");
}

void CudnnHandle::Deleter::operator()(cudnnContext* context) const { cudnnDestroy(context); }

std::string cudnn_version() {
    const auto version = static_cast<int>(cudnnGetVersion());
    return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

std::string told(const AttentionDescription& description) {
    constexpr const char* kPasses[] = {"forward", "forward with stats", "backward"};
    const auto& d = description;
    const bool backward = d.pass == AttentionPass::kBackward;
    return fmt::format("attention {}: {} sequences of {} queries and {} keys, {} heads of {}, {}{}{}",
                       kPasses[static_cast<int>(d.pass)], d.sequences, d.max_q_length, d.max_kv_length, d.heads,
                       d.head_columns, d.causal == Causal::kYes ? "causal" : "full",
                       d.dropout > 0.0F ? ", dropout" : "",
                       backward && d.deterministic == Deterministic::kYes ? ", deterministic" : "");
}

struct CudnnPlan::Compiled {
    AttentionDescription description;
    std::shared_ptr<Graph> graph;
    std::int64_t workspace_bytes = 0;
};

CudnnPlan::CudnnPlan(const AttentionDescription& description, int capability, cudnnContext* handle)
    : compiled_(std::make_unique<Compiled>()) {
    compiled_->description = description;
    compiled_->graph = GraphBuilder(description, capability).build();
    Graph& graph = *compiled_->graph;
    check(accept(graph, handle), description, "does not take");
    check(graph.build_plans(), description, "cannot compile");
    check(graph.get_workspace_size(compiled_->workspace_bytes), description, "cannot size");
}

CudnnPlan::~CudnnPlan() = default;
CudnnPlan::CudnnPlan(CudnnPlan&&) noexcept = default;
CudnnPlan& CudnnPlan::operator=(CudnnPlan&&) noexcept = default;

std::int64_t CudnnPlan::workspace_bytes() const { return compiled_->workspace_bytes; }

void CudnnPlan::execute(cudnnContext* handle, const AttentionAddresses& at) const {
    const AttentionDescription& description = compiled_->description;
    std::unordered_map<std::int64_t, void*> pack{
        {kQ, at.q}, {kK, at.k}, {kV, at.v}, {kY, at.y}, {kQLengths, at.q_lengths}, {kKvLengths, at.kv_lengths},
    };
    const bool backward = description.pass == AttentionPass::kBackward;
    if (description.pass != AttentionPass::kForward) pack[kStats] = at.stats;
    if (backward) {
        pack[kDy] = at.dy;
        pack[kDq] = at.dq;
        pack[kDk] = at.dk;
        pack[kDv] = at.dv;
    }
    if (description.dropout > 0.0F) {
        pack[kSeed] = at.seed;
        pack[kSeedOffset] = at.seed + 1;
    }
    if (description.mask_dump == MaskDump::kYes) pack[kMask] = at.mask_dump;
    for (std::int64_t array = 0; array < (backward ? kOffsetArrays : kDyOffsets); ++array) {
        pack[kFirstOffsets + array] = at.offsets + array * (description.sequences + 1);
    }
    check(compiled_->graph->execute(handle, pack, at.workspace), description, "failed in");
}

PlanReport check_plan(const AttentionDescription& description, int capability, const std::string& device_properties) {
    const auto properties = std::make_shared<fe::DeviceProperties>();
    auto status = properties->deserialize({device_properties.begin(), device_properties.end()});
    if (status.is_bad()) return {.refusal = "the card's description: " + status.get_message()};
    const auto graph = GraphBuilder(description, capability).build();
    graph->set_device_properties(properties);
    status = accept(*graph, nullptr);
    if (status.is_bad()) return {.refusal = status.get_message()};
    return {.workspace_bytes = graph->described_workspace_bytes()};
}

}  // namespace duologue::cuda
