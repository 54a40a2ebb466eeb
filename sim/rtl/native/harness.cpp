// Native harness around the Verilated accelerator: clock, reset, AXI4-Lite driver, AXI4 memory, retire times, waves.
//
// model.h is generated beside the model (sim/rtl/native_backend.py): it includes the model's headers and defines DATA_BYTES, and
// RETIRE_STAGES(X), which calls X(valid, index) for each unit's retire signals.
#include "harness.h"

#include <memory>

#include "memory.h"
#include "model.h"
#include "verilated.h"
#if defined(WAVES_FST)
#include "verilated_fst_c.h"
using Trace = VerilatedFstC;
#elif defined(WAVES_VCD)
#include "verilated_vcd_c.h"
using Trace = VerilatedVcdC;
#endif

struct Harness {
    Harness(const Settings& settings, const char* waves) : m_settings{settings}, m_memory{m_model, settings} {
#if defined(WAVES_FST) || defined(WAVES_VCD)
        if (waves) {
            m_context.traceEverOn(true);
            m_model.trace(&m_trace, 99);
            m_trace.open(waves);
        }
#else
        (void)waves;
#endif
        m_model.aresetn = 0;
        for (int i = 0; i < 8; ++i) step();
        m_model.aresetn = 1;
        step();
    }

    ~Harness() {
#if defined(WAVES_FST) || defined(WAVES_VCD)
        m_trace.close();
#endif
        m_model.final();
    }

    void step() {
        settle();
        advance();
    }

    int64_t write(uint32_t address, uint32_t data) {
        m_model.s_axil_awaddr = address;
        m_model.s_axil_wdata = data;
        m_model.s_axil_wstrb = 0xf;
        m_model.s_axil_awvalid = m_model.s_axil_wvalid = 1;
        m_model.s_axil_bready = 1;
        for (int i = 0; i < PATIENCE; ++i) {
            const Handshake seen = axil_step();
            if (seen.aw) m_model.s_axil_awvalid = 0;
            if (seen.w) m_model.s_axil_wvalid = 0;
            if (seen.b) return static_cast<int64_t>(seen.response) << 32;
        }
        return -1;
    }

    int64_t read(uint32_t address) {
        m_model.s_axil_araddr = address;
        m_model.s_axil_arvalid = m_model.s_axil_rready = 1;
        for (int i = 0; i < PATIENCE; ++i) {
            const Handshake seen = axil_step();
            if (seen.ar) m_model.s_axil_arvalid = 0;
            if (seen.r) return static_cast<int64_t>(seen.response) << 32 | seen.data;
        }
        return -1;
    }

    int run(uint64_t cycles) {
        for (uint64_t i = 0; i < cycles && !m_model.irq && m_memory.violation().empty(); ++i) step();
        return m_model.irq != 0;
    }

    uint64_t cycles() const { return m_cycle; }
    const char* violation() const { return m_memory.violation().c_str(); }

private:
    static constexpr int PATIENCE = 1000;

    struct Handshake {
        bool aw, w, b, ar, r;
        unsigned response;
        uint32_t data;
    };

    // A cycle, with the AXI4-Lite transfers that happened in it.
    Handshake axil_step() {
        settle();
        const Handshake seen{
            m_model.s_axil_awvalid && m_model.s_axil_awready, m_model.s_axil_wvalid && m_model.s_axil_wready,
            m_model.s_axil_bvalid && m_model.s_axil_bready,   m_model.s_axil_arvalid && m_model.s_axil_arready,
            m_model.s_axil_rvalid && m_model.s_axil_rready,
            static_cast<unsigned>(m_model.s_axil_bvalid ? m_model.s_axil_bresp : m_model.s_axil_rresp),
            m_model.s_axil_rdata};
        advance();
        return seen;
    }

    // First half of a cycle: inputs and the combinational paths from them settle.
    void settle() {
        m_memory.drive();
        m_model.aclk = 0;
        m_model.eval();
        dump(0);
    }

    // Second half: memory and monitors look at the settled signals, then the clock rises.
    void advance() {
        m_memory.sample();
        note_retired();
        m_model.aclk = 1;
        m_model.eval();
        dump(1);
        ++m_cycle;
    }

    void note_retired() {
#define NOTE(valid, index) \
    if (m_model.rootp->valid && m_model.rootp->index < m_settings.instructions) \
        m_settings.retired[m_model.rootp->index] = m_cycle;
        RETIRE_STAGES(NOTE)
#undef NOTE
    }

    void dump(int phase) {
#if defined(WAVES_FST) || defined(WAVES_VCD)
        if (m_trace.isOpen()) m_trace.dump(m_cycle * 10 + phase * 5);
#else
        (void)phase;
#endif
    }

    const Settings m_settings;
    VerilatedContext m_context;
    Model m_model{&m_context};
    Memory<Model, DATA_BYTES> m_memory;
#if defined(WAVES_FST) || defined(WAVES_VCD)
    Trace m_trace;
#endif
    uint64_t m_cycle = 0;
};

extern "C" {

Harness* harness_new(const Settings* settings, const char* waves) { return new Harness{*settings, waves}; }
void harness_delete(Harness* harness) { delete harness; }
int64_t harness_write(Harness* harness, uint32_t address, uint32_t data) { return harness->write(address, data); }
int64_t harness_read(Harness* harness, uint32_t address) { return harness->read(address); }
int harness_run(Harness* harness, uint64_t cycles) { return harness->run(cycles); }
uint64_t harness_cycles(const Harness* harness) { return harness->cycles(); }
const char* harness_violation(const Harness* harness) { return harness->violation(); }
}
