// AXI4 memory model for one master: latency, bandwidth, random stalls, error answers; and a checker of the protocol.
//
// Each cycle: drive() sets the memory's outputs from its own state alone; after the model has settled, sample() looks at
// both sides of every channel and moves on. Responses come in the order of the requests.
#pragma once
#include <cstdio>
#include <cstring>
#include <deque>
#include <string>

#include "harness.h"

// A channel's valid, ready and payload of the cycle before: a valid that was not taken must stay, unchanged.
template <typename Payload>
class StabilityCheck {
public:
    // False if the master took back or changed what it offered.
    bool holds(bool valid, bool ready, const Payload& payload) {
        const bool good = !m_waiting || (valid && !std::memcmp(&payload, &m_payload, sizeof payload));
        m_waiting = valid && !ready;
        if (m_waiting) std::memcpy(&m_payload, &payload, sizeof payload);
        return good;
    }

private:
    bool m_waiting = false;
    Payload m_payload;
};

template <typename Model, unsigned DataBytes>
class Memory {
public:
    Memory(Model& model, const Settings& settings)
        : m_model{model}, m_set{settings}, m_random{settings.seed} {}

    const std::string& violation() const { return m_violation; }

    void drive() {
        m_model.m_axi_arready = m_reads.size() < m_set.outstanding && !stalled();
        m_model.m_axi_awready = m_writes.size() + m_answers.size() < m_set.outstanding && !stalled();
        m_model.m_axi_wready = !m_writes.empty() && m_write_credit >= FULL && !stalled();
        if (!m_reading && !m_reads.empty() && m_reads.front().due <= m_now && m_read_credit >= FULL && !stalled()) {
            offer_beat();
        }
        m_model.m_axi_rvalid = m_reading;
        if (!m_answering && !m_answers.empty() && m_answers.front().due <= m_now && !stalled()) {
            m_answering = true;
            m_model.m_axi_bresp = m_answers.front().error ? SLVERR : OKAY;
        }
        m_model.m_axi_bvalid = m_answering;
    }

    void sample() {
        sample_read_address();
        sample_write_address();
        sample_write_data();
        if (m_reading && m_model.m_axi_rready) finish_beat();
        if (m_answering && m_model.m_axi_bready) {
            m_answers.pop_front();
            m_answering = false;
        }
        m_read_credit = earned(m_read_credit);
        m_write_credit = earned(m_write_credit);
        ++m_now;
    }

private:
    static constexpr unsigned OKAY = 0, SLVERR = 2;
    static constexpr uint32_t FULL = 65536;
    static constexpr uint64_t PAGE = 4096;

    struct Burst {
        uint64_t address;
        unsigned beats;
        uint64_t due;
        bool error;
    };
    struct Answer {
        uint64_t due;
        bool error;
    };
    struct Address {
        uint64_t address, length, size, burst;
    };
    struct Beat {
        uint8_t data[DataBytes];
        uint64_t strobe, last;
    };

    // SplitMix64.
    bool stalled() {
        if (!m_set.stall) return false;
        uint64_t mixed = m_random += 0x9e3779b97f4a7c15;
        mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
        mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
        return (mixed >> 31 & 0xffff) < m_set.stall;
    }

    uint32_t earned(uint32_t credit) const { return credit >= FULL ? credit : credit + m_set.bandwidth; }

    void breach(const char* rule, uint64_t address) {
        if (!m_violation.empty()) return;
        char text[200];
        std::snprintf(text, sizeof text, "%s (address 0x%llx, cycle %llu)", rule,
                      static_cast<unsigned long long>(address), static_cast<unsigned long long>(m_now));
        m_violation = text;
    }

    void check_burst(const Address& a) {
        const uint64_t bytes = (a.length + 1) * DataBytes;
        if ((1u << a.size) != DataBytes) breach("axsize must be the width of the port", a.address);
        if (a.burst != 1) breach("axburst must be INCR", a.address);
        if (a.address % DataBytes) breach("burst address must be a multiple of the beat", a.address);
        if (a.address % PAGE + bytes > PAGE) breach("burst must not cross 4 KiB", a.address);
        if (a.address < m_set.origin || a.address - m_set.origin + bytes > m_set.size) {
            breach("burst must stay inside the memory", a.address);
        }
    }

    void sample_read_address() {
        const bool valid = m_model.m_axi_arvalid, ready = m_model.m_axi_arready;
        const Address a{m_model.m_axi_araddr, m_model.m_axi_arlen, m_model.m_axi_arsize, m_model.m_axi_arburst};
        if (!m_ar_check.holds(valid, ready, a)) breach("arvalid and its payload must stay until arready", a.address);
        if (!valid || !ready) return;
        check_burst(a);
        if (m_violation.empty()) {
            m_reads.push_back({a.address, static_cast<unsigned>(a.length) + 1, m_now + m_set.read_latency, false});
        }
    }

    void sample_write_address() {
        const bool valid = m_model.m_axi_awvalid, ready = m_model.m_axi_awready;
        const Address a{m_model.m_axi_awaddr, m_model.m_axi_awlen, m_model.m_axi_awsize, m_model.m_axi_awburst};
        if (!m_aw_check.holds(valid, ready, a)) breach("awvalid and its payload must stay until awready", a.address);
        if (!valid || !ready) return;
        check_burst(a);
        if (m_violation.empty()) m_writes.push_back({a.address, static_cast<unsigned>(a.length) + 1, 0, false});
    }

    void sample_write_data() {
        const bool valid = m_model.m_axi_wvalid, ready = m_model.m_axi_wready;
        if (!valid) {
            if (!m_w_check.holds(false, ready, Beat{})) breach("wvalid must stay until wready", 0);
            return;
        }
        Beat beat{};
        std::memcpy(beat.data, &m_model.m_axi_wdata, DataBytes);
        beat.strobe = m_model.m_axi_wstrb;
        beat.last = m_model.m_axi_wlast;
        if (!m_w_check.holds(true, ready, beat)) breach("wvalid and its payload must stay until wready", 0);
        if (!ready) return;
        Burst& burst = m_writes.front();
        m_write_credit -= FULL;
        if (beat.last != (burst.beats == 1)) breach("wlast must mark the last beat of its burst", burst.address);
        if (refused(burst.address)) {
            burst.error = true;
        } else {
            uint8_t* target = m_set.data + (burst.address - m_set.origin);
            for (unsigned i = 0; i < DataBytes; ++i) {
                if (beat.strobe >> i & 1) target[i] = beat.data[i];
            }
        }
        burst.address += DataBytes;
        if (--burst.beats == 0) {
            m_answers.push_back({m_now + m_set.write_latency, burst.error});
            m_writes.pop_front();
        }
    }

    void offer_beat() {
        const Burst& burst = m_reads.front();
        m_reading = true;
        m_read_credit -= FULL;
        std::memcpy(&m_model.m_axi_rdata, m_set.data + (burst.address - m_set.origin), DataBytes);
        m_model.m_axi_rresp = refused(burst.address) ? SLVERR : OKAY;
        m_model.m_axi_rlast = burst.beats == 1;
    }

    void finish_beat() {
        Burst& burst = m_reads.front();
        m_reading = false;
        burst.address += DataBytes;
        if (--burst.beats == 0) m_reads.pop_front();
    }

    bool refused(uint64_t address) const { return address >= m_set.error_low && address < m_set.error_high; }

    Model& m_model;
    const Settings m_set;
    uint64_t m_random;
    uint64_t m_now = 0;
    uint32_t m_read_credit = FULL, m_write_credit = FULL;
    bool m_reading = false, m_answering = false;
    std::deque<Burst> m_reads, m_writes;
    std::deque<Answer> m_answers;
    StabilityCheck<Address> m_ar_check, m_aw_check;
    StabilityCheck<Beat> m_w_check;
    std::string m_violation;
};
