// Block: self-attention, cross-attention where there is an encoder, feed-forward; and stacks of blocks.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "model/attention.h"
#include "model/feed_forward.h"
#include "model/residual.h"

namespace duologue {

/// A sublayer and the seam behind it.
template <class Layer>
struct Part {
    Layer layer;
    Seam seam;
    std::size_t finished = 0;  ///< entries of the table whose gradients are final after this part's backward pass
};

template <class LayerSaved>
struct PartSaved {
    LayerSaved layer;
    NormSaved norm;
};

struct Block {
    Part<SelfAttention> self_attention;
    std::optional<Part<CrossAttention>> cross_attention;  ///< in the decoder of an encoder-decoder
    Part<FeedForward> feed_forward;
};

struct BlockSaved {
    PartSaved<SelfAttentionSaved> self_attention;
    PartSaved<CrossAttentionSaved> cross_attention;
    PartSaved<FeedForwardSaved> feed_forward;
};

struct Stack {
    std::vector<Block> blocks;
    std::optional<Norm> opening_norm;  ///< pre-norm: the norm in front of the first part
    std::size_t finished = 0;          ///< entries final after the stack's backward pass
};

struct StackSaved {
    NormSaved opening_norm;
    std::vector<BlockSaved> blocks;
};

/// The rows a stack works on, and those it looks at (absent: none).
struct StackInput {
    Tensor x;  ///< act [N,C]
    Offsets offsets;
    Memory memory;
};

/// What a stack looks like.
struct StackShape {
    std::string name;
    std::int64_t layers = 0;
    Causal causal = Causal::kNo;
    enum class Cross : std::uint8_t { kNone, kMemory } cross = Cross::kNone;
};

/// Appends the parameters of a stack in the order in which its backward pass finishes their gradients. `site` is the
/// next free dropout site and is moved on.
[[nodiscard]] Stack declare_stack(ParameterTable& table, const ModelConfig& config, const StackShape& shape,
                                  std::uint64_t& site);

/// The stack's output [N,C]: the last norm's.
[[nodiscard]] Tensor stack_forward(const ForwardPass& pass, const Stack& stack, const StackInput& input,
                                   StackSaved& saved);

/// Told how many entries of the table have final gradients.
using EntriesFinished = std::function<void(std::size_t entries)>;

/// `dy` [N,C] in: the gradient of the output; it is used up. Returns dx [N,C], in dy or in `arena` (the caller's
/// scope). `dmemory` f32 [M,C] += where the stack has cross-attention.
[[nodiscard]] Tensor stack_backward(const BackwardPass& pass, const Stack& stack, const StackInput& input,
                                    const StackSaved& saved, const Tensor& dy, const Tensor& dmemory,
                                    const EntriesFinished& on_finished);

}  // namespace duologue
