#include "run/msgpack.h"

namespace gfxemu::msgpack {
namespace {
struct Reader {
  const uint8_t *p, *end;
  bool ok = true;
  uint64_t number(int n) {
    if (end - p < n) {
      ok = false;
      return 0;
    }
    uint64_t r = 0;
    while (n--) r = r << 8 | *p++;
    return r;
  }
  Value text(uint64_t n) {
    Value v;
    v.type = Value::STRING;
    if (static_cast<uint64_t>(end - p) < n) {
      ok = false;
      return v;
    }
    v.s.assign(reinterpret_cast<const char*>(p), n);
    p += n;
    return v;
  }
  Value integer(int64_t i) {
    Value v;
    v.type = Value::INT;
    v.i = i;
    return v;
  }
  Value array(uint64_t n, int depth) {
    Value v;
    v.type = Value::ARRAY;
    for (uint64_t i = 0; i < n && ok; ++i) v.a.push_back(read(depth + 1));
    return v;
  }
  Value map(uint64_t n, int depth) {
    Value v;
    v.type = Value::MAP;
    for (uint64_t i = 0; i < n && ok; ++i) {
      Value k = read(depth + 1);
      v.m[k.s] = read(depth + 1);
    }
    return v;
  }
  Value read(int depth) {
    if (depth > 32) ok = false;
    uint8_t b = static_cast<uint8_t>(number(1));
    if (!ok) return {};
    if (b < 0x80) return integer(b);
    if (b < 0x90) return map(b & 15, depth);
    if (b < 0xa0) return array(b & 15, depth);
    if (b < 0xc0) return text(b & 31);
    if (b >= 0xe0) return integer(static_cast<int8_t>(b));
    switch (b) {
      case 0xc0:
        return {};
      case 0xc2:
      case 0xc3: {
        Value v = integer(b & 1);
        v.type = Value::BOOL;
        return v;
      }
      case 0xc4:
      case 0xd9:
        return text(number(1));
      case 0xc5:
      case 0xda:
        return text(number(2));
      case 0xc6:
      case 0xdb:
        return text(number(4));
      case 0xcc:
        return integer(static_cast<int64_t>(number(1)));
      case 0xcd:
        return integer(static_cast<int64_t>(number(2)));
      case 0xce:
        return integer(static_cast<int64_t>(number(4)));
      case 0xcf:
        return integer(static_cast<int64_t>(number(8)));
      case 0xd0:
        return integer(static_cast<int8_t>(number(1)));
      case 0xd1:
        return integer(static_cast<int16_t>(number(2)));
      case 0xd2:
        return integer(static_cast<int32_t>(number(4)));
      case 0xd3:
        return integer(static_cast<int64_t>(number(8)));
      case 0xdc:
        return array(number(2), depth);
      case 0xdd:
        return array(number(4), depth);
      case 0xde:
        return map(number(2), depth);
      case 0xdf:
        return map(number(4), depth);
      default:
        ok = false;
        return {};
    }
  }
};
}  // namespace

bool parse(const uint8_t* data, size_t size, Value* out) {
  Reader r{data, data + size};
  *out = r.read(0);
  return r.ok;
}

}  // namespace gfxemu::msgpack
