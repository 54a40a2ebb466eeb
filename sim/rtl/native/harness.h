// C interface of the native harness, as sim/rtl/native_backend.py sees it through ctypes. Plain C types only.
#pragma once
#include <cstdint>

extern "C" {

// The memory behind the AXI4 port, and how it behaves.
struct Settings {
    uint8_t* data;          // byte at address `origin`
    uint64_t origin;
    uint64_t size;
    uint64_t error_low;     // addresses in [error_low, error_high) answer with SLVERR
    uint64_t error_high;
    uint64_t seed;
    uint32_t read_latency;  // cycles from a read address to its first beat, at least 1
    uint32_t write_latency; // cycles from a burst's last write beat to its response, at least 1
    uint32_t bandwidth;     // beats in 65536 cycles, for each direction
    uint32_t stall;         // of 65536 cycles, in how many each channel refuses at random
    uint32_t outstanding;   // bursts accepted and not finished, for each direction
    uint32_t instructions;  // length of `retired`
    uint64_t* retired;      // cycle in which each instruction retired
};

struct Harness;

// `waves` is a file to trace to, or null. The model comes out of reset.
Harness* harness_new(const Settings* settings, const char* waves);
void harness_delete(Harness*);

// AXI4-Lite accesses; -1 if the port does not answer within 1000 cycles, else (response << 32 | data).
int64_t harness_write(Harness*, uint32_t address, uint32_t data);
int64_t harness_read(Harness*, uint32_t address);

// Clock the model until irq, a violation, or `cycles` have passed. Returns 1 for irq, 0 otherwise.
int harness_run(Harness*, uint64_t cycles);

uint64_t harness_cycles(const Harness*);
// The first breach of the AXI protocol by the model, or an empty string.
const char* harness_violation(const Harness*);
}
