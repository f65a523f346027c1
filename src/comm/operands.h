// What every communicator demands of the tensors it is given. Errors are kInternal: the caller is a program.
#pragma once

#include "duologue/core/error.h"
#include "duologue/core/tensor.h"

namespace duologue {

inline void require_contiguous(const Tensor& x, const char* what) {
    require(x.contiguous(), ErrorCode::kInternal, "{}: a tensor of {} x {} is not contiguous", what, x.rows, x.columns);
}

inline void require_f32(const Tensor& x, const char* what) {
    require_contiguous(x, what);
    require(x.type == DataType::kF32, ErrorCode::kInternal, "{}: a tensor of {} x {} is {}, sums are of f32", what,
            x.rows, x.columns, name_of(x.type));
}

/// Error unless all is `ranks` times piece, of one type.
inline void require_pieces(const Tensor& all, const Tensor& piece, int ranks, const char* what) {
    require_contiguous(all, what);
    require_contiguous(piece, what);
    require(all.type == piece.type && all.elements() == piece.elements() * ranks, ErrorCode::kInternal,
            "{}: {} elements of {} are not {} pieces of {} of {}", what, all.elements(), name_of(all.type), ranks,
            piece.elements(), name_of(piece.type));
}

}  // namespace duologue
