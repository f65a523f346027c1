// DeviceStream: where a device runs its work in order; how a communicator meets a back end without knowing it.
#pragma once

namespace duologue {

/// The compute stream of one device, opaque here. It belongs to the back end that gave it and lives as long.
struct DeviceStream {
    int device = 0;
    void* stream = nullptr;
};

}  // namespace duologue
