// Backend: the coarse operations a Transformer is trained with, on one device. Shapes are checked here, once for all
// devices.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "duologue/backend/repeater.h"
#include "duologue/core/tensor.h"

namespace duologue {

// Conventions of every operation:
//   - outputs come first; nothing allocates; calls queue on one compute stream and may return before they have run;
//   - matrices are row-major; "act" is the activation type, f32 or bf16, the same for all activations and weights of a
//     call; sums are taken in f32 or wider; statistics, losses, parameter gradients and optimizer state are f32;
//   - outputs are overwritten unless `+=` or Write::kAccumulate says that they are accumulated into;
//   - equal inputs give equal bits on one back end, whatever the number of threads;
//   - a view whose rows are strided is accepted only where "may be strided" stands;
//   - zero rows are legal everywhere and do nothing (accumulated outputs keep, overwritten sums become 0).
// A violated shape is Error kInternal: the caller is a program, not a person.

enum class Transpose : std::uint8_t { kNo, kYes };
enum class Write : std::uint8_t { kOverwrite, kAccumulate };
enum class Causal : std::uint8_t { kNo, kYes };
enum class LossGradient : std::uint8_t { kNone, kInPlace };

/// Whether tensors lie where they say. A planning back end's do not, so that overlaps mean nothing.
enum class Addresses : std::uint8_t { kReal, kInvented };

/// What a matmul does to its f32 sum before it is written.
enum class Epilogue : std::uint8_t {
    kNone,
    kBias,      ///< + bias
    kBiasRelu,  ///< max(0, . + bias)
    kBiasGelu,  ///< gelu(. + bias), tanh form (Hendrycks and Gimpel 2016)
    kReluGrad,  ///< . * relu'(what kBiasRelu left in aux)
    kGeluGrad,  ///< . * gelu'(what kBiasGelu left in aux)
};

/// y[M,N] = epilogue(op(a) op(b)), op(a) [M,K], op(b) [K,N]. a and b: act, may be strided. y: act or f32, may be
/// strided.
struct Matmul {
    Tensor a;
    Tensor b;
    Transpose transpose_a = Transpose::kNo;
    Transpose transpose_b = Transpose::kNo;
    Write write = Write::kOverwrite;  ///< kAccumulate needs an f32 y and Epilogue::kNone
    Epilogue epilogue = Epilogue::kNone;
    Tensor bias = {};  ///< act [N]; kBias*
    /// u8 [aux_bytes()], opaque to the caller; written by kBiasRelu and kBiasGelu when present (absent: not written,
    /// for inference), read by kReluGrad and kGeluGrad of the same M, N and type of y.
    Tensor aux = {};
    /// f32 [M], overwritten or added to as y is: the sums over the rows of a, which has to be transposed. With a
    /// weight's gradient dy^T x this is the bias's. Absent: not asked for; only with Epilogue::kNone.
    Tensor a_sums = {};
};

/// Inverted dropout: element i is kept by dropout_keeps(mix_key(key of the micro-step, site), i, ...) and then scaled.
/// The micro-step's key is set by Backend::set_random_key; `site` tells the places of the model apart.
struct Dropout {
    float probability = 0.0F;  ///< 0: none
    std::uint64_t site = 0;
};

/// What is known of packed sequences beside their lengths. kTiled: none is empty and the last has a whole number of
/// tiles of kTileRows rows, so that whoever reads any sequence in whole tiles stays inside the rows.
enum class Packing : std::uint8_t { kPlain, kTiled };
inline constexpr std::int64_t kTileRows = 128;

/// Where S packed sequences begin: values i32 [S+1], values[0] = 0, non-decreasing, values[S] = the number of rows.
struct Offsets {
    Tensor values;
    std::int64_t sequences = 0;   ///< S
    std::int64_t max_length = 0;  ///< no sequence is longer
    Packing packing = Packing::kPlain;
};

/// sum = x + dropout(delta); y = layer_norm(sum) * gamma + beta, over rows of C (Ba et al. 2016, population variance).
struct ResidualNorm {
    Tensor x;              ///< act [N,C]
    Tensor delta = {};     ///< act [N,C]; absent: sum = x, and the output `sum` must be absent too
    Dropout dropout = {};  ///< on delta; element index = row * C + column
    Tensor gamma;          ///< act [C]
    Tensor beta;           ///< act [C]
    float epsilon = 1e-5F;
};

/// Gradients of ResidualNorm. dsum = d/dsum of layer_norm given dy (+ dy_branch), plus `dsum_above` where present.
struct ResidualNormBackward {
    Tensor dy;               ///< act [N,C]
    Tensor dy_branch = {};   ///< act [N,C], added to dy: y was read twice; absent: none
    Tensor dsum_above = {};  ///< act [N,C], the gradient that reaches `sum` past the norm (pre-norm); absent: none
    Tensor sum;              ///< act [N,C], as the forward pass wrote it (or x where delta was absent)
    Tensor mean;             ///< f32 [N]
    Tensor rstd;             ///< f32 [N]
    Tensor gamma;            ///< act [C]
    Dropout dropout = {};    ///< the forward pass's
};

struct ResidualNormGradients {
    Tensor dx;               ///< act [N,C] = dsum; may be dy or dsum_above itself
    Tensor ddelta = {};      ///< act [N,C] = dsum through the dropout, absent where delta was; may be dy_branch itself
    Tensor ddelta_sum = {};  ///< f32 [C] += the sum over rows of ddelta, the gradient of a bias that delta ends with;
                             ///< absent: not asked for
    Tensor dgamma;           ///< f32 [C] +=
    Tensor dbeta;            ///< f32 [C] +=
};

/// Multi-head attention over packed sequences (Vaswani et al. 2017, eq. 1): heads are adjacent slices of D = C/H
/// columns.
struct Attention {
    Tensor q;  ///< act [Nq,C], may be strided
    Tensor k;  ///< act [Nk,C], may be strided
    Tensor v;  ///< act [Nk,C], may be strided
    Offsets q_offsets;
    Offsets kv_offsets;           ///< as many sequences as q_offsets; none empty where its queries are not
    Causal causal = Causal::kNo;  ///< kYes: query i of a sequence sees keys 0..i; both lengths are equal
    std::int64_t heads = 1;
    float scale = 1.0F;
    Dropout dropout = {};  ///< on the probabilities. Which elements are dropped is the back end's own choice, but it is
                           ///< a function of key, site and lengths, and the backward pass repeats the forward pass's.
};

/// One query per sequence against a cache of keys and values.
struct AttentionDecode {
    Tensor q;        ///< act [B,C], may be strided
    Tensor k_cache;  ///< act [B*capacity, C], may be strided; sequence b owns rows b*capacity ..
    Tensor v_cache;  ///< as k_cache
    Tensor lengths;  ///< i32 [B]: how many rows of the cache are valid, 1..capacity
    std::int64_t capacity = 0;
    std::int64_t heads = 1;
    float scale = 1.0F;
};

/// y[i] = dropout(scale * table[tokens[i]] + position_table[positions[i]])
struct Embedding {
    Tensor tokens;          ///< i32 [N], each in [0,V)
    Tensor positions;       ///< i32 [N], each in [0,P)
    Tensor table;           ///< act [V,C]
    Tensor position_table;  ///< act [P,C]
    float scale = 1.0F;
    Dropout dropout = {};  ///< element index = row * C + column
};

/// Adam with decoupled weight decay (Kingma and Ba 2015; Loshchilov and Hutter 2019), fused with the division by the
/// token count and with clipping by global norm: g = gradients / divisor; norm = sqrt(square_sum) / divisor; g *=
/// min(1, max_norm / norm). Nothing at all is changed when square_sum or loss is not finite or divisor is not positive:
/// the step is skipped.
struct AdamW {
    Tensor values;        ///< f32 [n], in and out: the master parameters
    Tensor weights = {};  ///< act [n], out: values rounded to the activation type; absent where act is f32
    Tensor first;         ///< f32 [n], in and out: first moment
    Tensor second;        ///< f32 [n], in and out: second moment
    Tensor gradients;     ///< f32 [n]
    Tensor divisor;       ///< f32 [1] on the device: the global number of target tokens
    Tensor square_sum;    ///< f32 [1] on the device: the sum of squares of all gradients of the model
    Tensor loss = {};     ///< f32 [1] on the device; absent: not looked at
    float learning_rate = 0.0F;
    float beta1 = 0.9F;
    float beta2 = 0.98F;
    float epsilon = 1e-9F;
    float weight_decay = 0.0F;
    float max_norm = 0.0F;  ///< 0: no clipping
    std::int64_t step = 1;  ///< 1-based, for the bias corrections
};

/// Memory of one device, freed when it goes.
class DeviceBuffer {
   public:
    using Release = std::function<void(void*)>;
    DeviceBuffer() = default;
    DeviceBuffer(void* data, std::int64_t bytes, Release release) : data_(data, std::move(release)), bytes_(bytes) {}
    [[nodiscard]] void* data() const { return data_.get(); }
    [[nodiscard]] std::int64_t bytes() const { return bytes_; }

   private:
    std::unique_ptr<void, Release> data_{nullptr, [](void*) {}};
    std::int64_t bytes_ = 0;
};

class Backend {
   public:
    Backend() = default;
    virtual ~Backend() = default;
    Backend(const Backend&) = delete;
    Backend& operator=(const Backend&) = delete;
    Backend(Backend&&) = delete;
    Backend& operator=(Backend&&) = delete;

    /// One line for people: device, instruction set or card, libraries, threads.
    [[nodiscard]] virtual std::string description() const = 0;
    /// How micro-batches are best packed here. Every packing gives the same results.
    [[nodiscard]] virtual Packing packing() const { return Packing::kPlain; }
    /// How large a piece is best of what is made and used up in pieces: it stays in a processor's caches, or is work
    /// enough for all of a card.
    [[nodiscard]] virtual std::int64_t piece_bytes() const { return std::int64_t{16} << 20; }
    /// For work that is queued often. It ends before the back end.
    [[nodiscard]] virtual std::unique_ptr<Repeater> make_repeater() { return std::make_unique<PlainRepeater>(); }

    // --- memory
    // -------------------------------------------------------------------------------------------------------
    /// `bytes` of zeroed device memory, aligned to Arena::kAlignment. Error kDevice when there is not enough.
    [[nodiscard]] DeviceBuffer allocate(std::int64_t bytes);
    void zero(const Tensor& y);
    void copy(const Tensor& y, const Tensor& x);     ///< same type and shape; both may be strided
    void upload(const Tensor& y, const void* host);  ///< `host` may be reused on return; y contiguous
    void download(void* host, const Tensor& x);      ///< waits for x; x contiguous
    void synchronize();                              ///< waits for everything queued

    /// The key of all dropout until the next call.
    void set_random_key(std::uint64_t key);

    // --- linear
    // -------------------------------------------------------------------------------------------------------
    void matmul(const Tensor& y, const Matmul& operation);
    /// Bytes of Matmul::aux for an M x N result of type `type` (0 where the epilogue neither keeps nor reads anything;
    /// a gradient epilogue needs what its forward epilogue left).
    [[nodiscard]] std::int64_t aux_bytes(Epilogue epilogue, DataType type, std::int64_t rows,
                                         std::int64_t columns) const;
    /// db[N] (+)= sum over rows of dy[M,N]; db f32, dy act, may be strided.
    void column_sum(const Tensor& db, const Tensor& dy, Write write);

    // --- norm
    // ---------------------------------------------------------------------------------------------------------
    /// sum [N,C] act, y [N,C] act, mean [N] f32, rstd [N] f32. `sum` may be x or delta itself; `y` is separate.
    /// mean and rstd both absent: not kept.
    void residual_norm_forward(const Tensor& sum, const Tensor& y, const Tensor& mean, const Tensor& rstd,
                               const ResidualNorm& operation);
    void residual_norm_backward(const ResidualNormGradients& gradients, const ResidualNormBackward& operation);

    // --- attention
    // ----------------------------------------------------------------------------------------------------
    /// y [Nq,C] act, may be strided; stats [Nq,H] f32 = log of the sum of exp of the scaled scores (absent: not kept).
    void attention_forward(const Tensor& y, const Tensor& stats, const Attention& operation);
    /// dq, dk, dv like q, k, v, may be strided; dy and y as in the forward pass. `scratch` u8 of
    /// attention_scratch_bytes().
    void attention_backward(const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& dy, const Tensor& y,
                            const Tensor& stats, const Tensor& scratch, const Attention& operation);
    /// Bytes of `scratch` for any attention of this type and width with at most these rows, sequences and lengths.
    [[nodiscard]] std::int64_t attention_scratch_bytes(const Attention& operation) const;
    /// y [B,C] act, may be strided.
    void attention_decode(const Tensor& y, const AttentionDecode& operation);

    // --- embedding
    // ----------------------------------------------------------------------------------------------------
    void embedding_forward(const Tensor& y, const Embedding& operation);
    /// dtable[V,C] f32 += scale * dy through the dropout; dposition_table [P,C] f32 += (absent: not wanted).
    /// Deterministic.
    void embedding_backward(const Tensor& dtable, const Tensor& dposition_table, const Tensor& dy,
                            const Embedding& operation);

    // --- loss
    // ---------------------------------------------------------------------------------------------------------
    /// losses[N] f32 = (1-s) * -log p[target] + s/V * sum_v -log p[v], p = softmax(logits row), s = smoothing (Szegedy
    /// et al. 2016; target kept inside the uniform share, as PyTorch does). targets i32 [N]; -1: the row counts for
    /// nothing, loss 0 and gradient 0. kInPlace: logits [N,V] act become the gradient of the sum of losses.
    void cross_entropy(const Tensor& losses, const Tensor& logits, const Tensor& targets, float smoothing,
                       LossGradient gradient);

    // --- elementwise
    // --------------------------------------------------------------------------------------------------
    void add(const Tensor& y, const Tensor& a, const Tensor& b);  ///< act, contiguous; y may be a or b
    void cast(const Tensor& y, const Tensor& x);                  ///< f32 <-> bf16 or equal types, contiguous
    void dropout(const Tensor& y, const Tensor& x,
                 const Dropout& dropout);  ///< act, element index as stored; y may be x

    // --- reduction (fixed order)
    // --------------------------------------------------------------------------------------
    void sum(const Tensor& y, const Tensor& x, Write write);  ///< y f32 [1] (+)= sum of x f32, contiguous
    void sum_squares(const Tensor& y, const Tensor& x,
                     Write write);  ///< y f32 [1] (+)= sum of squares of x f32, contiguous

    // --- optimizer
    // ----------------------------------------------------------------------------------------------------
    void adamw(const AdamW& operation);

   private:
    [[nodiscard]] virtual Addresses addresses() const { return Addresses::kReal; }
    virtual DeviceBuffer do_allocate(std::int64_t bytes) = 0;
    virtual void do_zero(const Tensor& y) = 0;
    virtual void do_copy(const Tensor& y, const Tensor& x) = 0;
    virtual void do_upload(const Tensor& y, const void* host) = 0;
    virtual void do_download(void* host, const Tensor& x) = 0;
    virtual void do_synchronize() = 0;
    virtual void do_set_random_key(std::uint64_t key) = 0;
    virtual void do_matmul(const Tensor& y, const Matmul& operation) = 0;
    [[nodiscard]] virtual std::int64_t do_aux_bytes(Epilogue epilogue, DataType type, std::int64_t rows,
                                                    std::int64_t columns) const = 0;
    virtual void do_column_sum(const Tensor& db, const Tensor& dy, Write write) = 0;
    virtual void do_residual_norm_forward(const Tensor& sum, const Tensor& y, const Tensor& mean, const Tensor& rstd,
                                          const ResidualNorm& operation) = 0;
    virtual void do_residual_norm_backward(const ResidualNormGradients& gradients,
                                           const ResidualNormBackward& operation) = 0;
    virtual void do_attention_forward(const Tensor& y, const Tensor& stats, const Attention& operation) = 0;
    virtual void do_attention_backward(const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& dy,
                                       const Tensor& y, const Tensor& stats, const Tensor& scratch,
                                       const Attention& operation) = 0;
    [[nodiscard]] virtual std::int64_t do_attention_scratch_bytes(const Attention& operation) const = 0;
    virtual void do_attention_decode(const Tensor& y, const AttentionDecode& operation) = 0;
    virtual void do_embedding_forward(const Tensor& y, const Embedding& operation) = 0;
    virtual void do_embedding_backward(const Tensor& dtable, const Tensor& dposition_table, const Tensor& dy,
                                       const Embedding& operation) = 0;
    virtual void do_cross_entropy(const Tensor& losses, const Tensor& logits, const Tensor& targets, float smoothing,
                                  LossGradient gradient) = 0;
    virtual void do_add(const Tensor& y, const Tensor& a, const Tensor& b) = 0;
    virtual void do_cast(const Tensor& y, const Tensor& x) = 0;
    virtual void do_dropout(const Tensor& y, const Tensor& x, const Dropout& dropout) = 0;
    virtual void do_sum(const Tensor& y, const Tensor& x, Write write) = 0;
    virtual void do_sum_squares(const Tensor& y, const Tensor& x, Write write) = 0;
    virtual void do_adamw(const AdamW& operation) = 0;
};

/// What a run of the model costs, counted by a planning back end.
struct PlanCounts {
    double matmul_flops = 0.0;
    double attention_flops = 0.0;
    std::int64_t allocated_bytes = 0;  ///< by allocate()
};

/// A back end that touches no memory: it checks shapes and counts.
class PlanningBackend : public Backend {
   public:
    [[nodiscard]] virtual PlanCounts counts() const = 0;
    virtual void reset_counts() = 0;
};

/// `device_like` answers aux_bytes() and attention_scratch_bytes(), so that the plan is that device's; it must outlive
/// the planning back end. Everything else succeeds without effect, but download(), which throws: a plan has no values.
[[nodiscard]] std::unique_ptr<PlanningBackend> make_planning_backend(const Backend& device_like);

/// The CPU back end. `threads` 0: every core this process may use. Error kDevice where the processor lacks what is
/// needed.
[[nodiscard]] std::unique_ptr<Backend> make_cpu_backend(int threads);

}  // namespace duologue
