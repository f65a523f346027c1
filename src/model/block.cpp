// Blocks forward and backward; the order of declaration is the order of the backward pass.
#include "model/block.h"

#include <fmt/format.h>

#include <algorithm>

namespace duologue {
namespace {

/// Declares parts from the last to the first and gives each the norm that its seam applies.
class PartDeclarer {
   public:
    PartDeclarer(ParameterTable& table, const ModelConfig& config, std::uint64_t& site)
        : table_(table), config_(config), site_(site) {}

    [[nodiscard]] Dropout dropout(double probability) {
        return {.probability = static_cast<float>(probability), .site = site_++};
    }

    /// Pre-norm only: the norm behind the last part.
    void declare_last_norm(const std::string& name) { next_ = declare_norm(table_, name, config_.width); }
    /// Pre-norm only: the norm in front of the part declared last.
    [[nodiscard]] Norm next_norm() const { return next_; }

    template <class Layer, class DeclareLayer>
    Part<Layer> part(const std::string& name, const DeclareLayer& declare_layer) {
        Part<Layer> part;
        part.seam.placement = config_.norm;
        part.seam.dropout = dropout(config_.dropout);
        const bool post = config_.norm == NormPlacement::kPost;
        part.seam.norm = post ? declare_norm(table_, name + "_norm", config_.width) : next_;
        part.layer = declare_layer(table_, name);
        part.seam.delta_bias = part.layer.last().bias;
        part.finished = table_.entries().size();
        if (!post) next_ = declare_norm(table_, name + "_norm", config_.width);
        return part;
    }

   private:
    ParameterTable& table_;
    const ModelConfig& config_;
    std::uint64_t& site_;
    Norm next_;
};

Block declare_block(PartDeclarer& declarer, const ModelConfig& config, const StackShape& shape,
                    const std::string& name) {
    const auto attention_shape = [&](Causal causal) {
        return AttentionShape{.width = config.width,
                              .heads = config.heads,
                              .causal = causal,
                              .dropout = declarer.dropout(config.attention_dropout)};
    };
    Block block;
    block.feed_forward =
        declarer.part<FeedForward>(name + "feed_forward", [&](ParameterTable& table, const std::string& part) {
            return declare_feed_forward(table, part, config.width, config.hidden, config.activation);
        });
    if (shape.cross == StackShape::Cross::kMemory) {
        block.cross_attention = declarer.part<CrossAttention>(
            name + "cross_attention", [&](ParameterTable& table, const std::string& part) {
                return declare_cross_attention(table, part, attention_shape(Causal::kNo));
            });
    }
    block.self_attention =
        declarer.part<SelfAttention>(name + "self_attention", [&](ParameterTable& table, const std::string& part) {
            return declare_self_attention(table, part, attention_shape(shape.causal));
        });
    return block;
}

Stream block_forward(const ForwardPass& pass, const Block& block, const StackInput& input, Stream stream,
                     BlockSaved& saved) {
    Tensor delta = self_attention_forward(pass, block.self_attention.layer, stream.normed, input.offsets,
                                          saved.self_attention.layer);
    stream = seam_forward(pass, block.self_attention.seam, stream, delta, saved.self_attention.norm);
    if (block.cross_attention) {
        delta = cross_attention_forward(pass, block.cross_attention->layer, stream.normed, input.offsets, input.memory,
                                        saved.cross_attention.layer);
        stream = seam_forward(pass, block.cross_attention->seam, stream, delta, saved.cross_attention.norm);
    }
    delta = feed_forward_forward(pass, block.feed_forward.layer, stream.normed, saved.feed_forward.layer);
    return seam_forward(pass, block.feed_forward.seam, stream, delta, saved.feed_forward.norm);
}

/// Takes the gradient back over a part: its seam, its layer (`layer_backward(dx, ddelta)`), and their junction.
template <class Layer, class LayerBackward>
void part_backward(const BackwardPass& pass, const Part<Layer>& part, const NormSaved& saved, StreamGradient& gradient,
                   const EntriesFinished& on_finished, const LayerBackward& layer_backward) {
    seam_backward(pass, part.seam, saved, gradient);
    layer_backward(part_input_gradient(part.seam, gradient), gradient.branch);
    join_branch(part.seam, gradient);
    on_finished(part.finished);
}

void block_backward(const BackwardPass& pass, const Block& block, const StackInput& input, const BlockSaved& saved,
                    StreamGradient& gradient, const Tensor& dmemory, const EntriesFinished& on_finished) {
    part_backward(pass, block.feed_forward, saved.feed_forward.norm, gradient, on_finished,
                  [&](const Tensor& dx, const Tensor& ddelta) {
                      feed_forward_backward(pass, block.feed_forward.layer, saved.feed_forward.layer, dx, ddelta);
                  });
    if (block.cross_attention) {
        part_backward(pass, *block.cross_attention, saved.cross_attention.norm, gradient, on_finished,
                      [&](const Tensor& dx, const Tensor& ddelta) {
                          cross_attention_backward(pass, block.cross_attention->layer, saved.cross_attention.layer,
                                                   input.offsets, input.memory, dx, dmemory, ddelta);
                      });
    }
    part_backward(pass, block.self_attention, saved.self_attention.norm, gradient, on_finished,
                  [&](const Tensor& dx, const Tensor& ddelta) {
                      self_attention_backward(pass, block.self_attention.layer, saved.self_attention.layer,
                                              input.offsets, dx, ddelta);
                  });
}

}  // namespace

Stack declare_stack(ParameterTable& table, const ModelConfig& config, const StackShape& shape, std::uint64_t& site) {
    Stack stack;
    PartDeclarer declarer(table, config, site);
    const bool pre = config.norm == NormPlacement::kPre;
    if (pre) declarer.declare_last_norm(shape.name + ".norm");
    for (std::int64_t layer = shape.layers - 1; layer >= 0; --layer) {
        stack.blocks.push_back(declare_block(declarer, config, shape, fmt::format("{}.layers.{}.", shape.name, layer)));
    }
    std::ranges::reverse(stack.blocks);
    if (pre) stack.opening_norm = declarer.next_norm();
    stack.finished = table.entries().size();
    return stack;
}

Tensor stack_forward(const ForwardPass& pass, const Stack& stack, const StackInput& input, StackSaved& saved) {
    saved.blocks.resize(stack.blocks.size());
    Stream stream{.normed = input.x, .sum = input.x};
    if (stack.opening_norm) stream = opening_norm_forward(pass, *stack.opening_norm, input.x, saved.opening_norm);
    for (std::size_t i = 0; i < stack.blocks.size(); ++i) {
        stream = block_forward(pass, stack.blocks[i], input, stream, saved.blocks[i]);
    }
    return stream.normed;
}

Tensor stack_backward(const BackwardPass& pass, const Stack& stack, const StackInput& input, const StackSaved& saved,
                      const Tensor& dy, const Tensor& dmemory, const EntriesFinished& on_finished) {
    StreamGradient gradient{.normed = dy, .through = {}, .sum = {}, .branch = pass.activations(dy.rows, dy.columns)};
    if (stack.opening_norm) {
        gradient.sum = pass.activations(dy.rows, dy.columns);
        pass.backend.zero(gradient.sum);  // nothing reaches the last sum but through the last norm
    }
    for (std::size_t i = stack.blocks.size(); i-- > 0;) {
        block_backward(pass, stack.blocks[i], input, saved.blocks[i], gradient, dmemory, on_finished);
    }
    if (!stack.opening_norm) return whole_gradient(pass, gradient);
    opening_norm_backward(pass, *stack.opening_norm, saved.opening_norm, gradient);
    on_finished(stack.finished);
    return gradient.sum;
}

}  // namespace duologue
