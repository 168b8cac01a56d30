// Marks a formula that runs on the host and on a GPU: the one place where the house asks which compiler is at work.
#pragma once

#ifdef __CUDACC__
#define MICROTOME_HOST_DEVICE __host__ __device__
#else
#define MICROTOME_HOST_DEVICE
#endif
