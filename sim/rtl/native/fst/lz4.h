// The two LZ4 functions that Verilator's FST writer needs, so that waves need no library on the machine: a greedy
// compressor to the LZ4 block format.
#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

inline int LZ4_compressBound(int size) { return size + size / 255 + 16; }

inline int LZ4_compress_default(const char* source, char* target, int size, int capacity) {
    if (capacity < LZ4_compressBound(size)) return 0;
    // The format's rules: the last 5 bytes are literals, and no match starts in the last 12.
    constexpr int LAST_LITERALS = 5, NO_MATCH = 12, MIN_MATCH = 4, FARTHEST = 65535;
    std::vector<int> seen(1 << 14, -1);
    char* out = target;
    const auto length = [&out](int value) {
        for (; value >= 255; value -= 255) *out++ = static_cast<char>(255);
        *out++ = static_cast<char>(value);
    };
    const auto emit = [&](int start, int literals, int match, int offset) {
        const int rest = match - MIN_MATCH, low = match == 0 ? 0 : rest < 15 ? rest : 15;
        *out++ = static_cast<char>((literals < 15 ? literals : 15) << 4 | low);
        if (literals >= 15) length(literals - 15);
        std::memcpy(out, source + start, literals);
        out += literals;
        if (!match) return;
        *out++ = static_cast<char>(offset);
        *out++ = static_cast<char>(offset >> 8);
        if (rest >= 15) length(rest - 15);
    };
    int start = 0;
    for (int i = 0; i < size - NO_MATCH;) {
        uint32_t word;
        std::memcpy(&word, source + i, 4);
        int& slot = seen[word * 2654435761u >> 18];
        const int candidate = slot;
        slot = i;
        if (candidate < 0 || i - candidate > FARTHEST || std::memcmp(source + candidate, source + i, MIN_MATCH)) {
            ++i;
            continue;
        }
        int match = MIN_MATCH;
        while (i + match < size - LAST_LITERALS && source[candidate + match] == source[i + match]) ++match;
        emit(start, i - start, match, i - candidate);
        i += match;
        start = i;
    }
    emit(start, size - start, 0, 0);
    return static_cast<int>(out - target);
}
