// Never compiled: an include that the layering test has to find.
#include "duologue/train/trainer.h"
