// MessagePack, as far as code object notes use it.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace gfxemu::msgpack {

struct Value {
  enum Type { NIL, BOOL, INT, STRING, ARRAY, MAP } type = NIL;
  int64_t i = 0;
  std::string s;
  std::vector<Value> a;
  std::map<std::string, Value> m;
  const Value* get(const char* key) const {
    auto it = m.find(key);
    return it == m.end() ? nullptr : &it->second;
  }
  int64_t integer(const char* key, int64_t otherwise) const {
    const Value* v = get(key);
    return v && (v->type == INT || v->type == BOOL) ? v->i : otherwise;
  }
  std::string string(const char* key) const {
    const Value* v = get(key);
    return v && v->type == STRING ? v->s : std::string();
  }
};

bool parse(const uint8_t* data, size_t size, Value* out);

}  // namespace gfxemu::msgpack
