// The part of zlib that Verilator's FST writer needs, so that waves need no library on the machine. Data is stored, not
// compressed; the writer keeps the original where that is smaller.
#pragma once
#include <cstdint>
#include <cstring>

using Bytef = unsigned char;
using uLong = unsigned long;
using uLongf = unsigned long;
constexpr int Z_OK = 0, Z_BUF_ERROR = -5;

inline uLong compressBound(uLong size) { return size + (size / 65535 + 1) * 5 + 6; }

inline int compress2(Bytef* target, uLongf* capacity, const Bytef* source, uLong size, int) {
    if (*capacity < compressBound(size)) return Z_BUF_ERROR;
    Bytef* out = target;
    *out++ = 0x78;
    *out++ = 0x01;
    uLong start = 0;
    do {
        const uLong part = size - start < 65535 ? size - start : 65535;
        *out++ = start + part == size;
        for (const uLong value : {part, ~part}) {
            *out++ = static_cast<Bytef>(value);
            *out++ = static_cast<Bytef>(value >> 8);
        }
        std::memcpy(out, source + start, part);
        out += part;
        start += part;
    } while (start < size);
    uint32_t low = 1, high = 0;
    for (uLong i = 0; i < size; ++i) {
        low = (low + source[i]) % 65521;
        high = (high + low) % 65521;
    }
    for (const uint32_t half : {high, low}) {
        *out++ = static_cast<Bytef>(half >> 8);
        *out++ = static_cast<Bytef>(half);
    }
    *capacity = static_cast<uLongf>(out - target);
    return Z_OK;
}
