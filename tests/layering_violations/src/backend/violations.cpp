// Never compiled: includes that the layering test has to find.
#include <cudnn.h>
#include <hdf5.h>
#include <mpi.h>

#include "duologue/model/transformer.h"
