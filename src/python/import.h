// Another library's array as an aiter_tensor, without a copy, for the time of a call or longer.
#pragma once

#include "aiter/device.h"
#include "python/array.h"
#include "python/frameworks.h"

namespace aiter::python {

// One array: a descriptor over the producer's memory.
class Imported {
 public:
  Imported() = default;
  Imported(const Imported&) = delete;
  ~Imported() {
    if (release_) release_(managed_);
  }

  aiter_tensor tensor{};
  int64_t shape[kMaxRank];
  int64_t strides[kMaxRank];
  bool readonly = false;
  Kind kind = Kind::kOther;
  nb::object owner;              // of outputs: the array object
  const Array* array = nullptr;  // if it is one of ours

 private:
  friend class Importer;
  void* managed_ = nullptr;  // a DlManaged or DlManagedVersioned
  void (*release_)(void*) = nullptr;
};

// The stream of a call: what the caller gave, or else where the first GPU array's library works.
class StreamChoice {
 public:
  explicit StreamChoice(nb::handle given) : given_(given) {}
  // The stream to import an array of that library on.
  aiter_stream on(aiter_device device, Kind kind, const DlExchange* exchange);
  // After the last import: also reads and checks a stream given with CPU arrays.
  aiter_stream resolve();

 private:
  void read_given();
  nb::handle given_;
  aiter_stream stream_ = nullptr;
  bool known_ = false;
};

// Takes an object in. `op` and `name` are for messages: "<op>: <name> is ...".
class Importer {
 public:
  Importer(const char* op, const char* name, StreamChoice& stream)
      : op_(op), name_(name), stream_(stream) {}

  // Fills `t`; throws TypeError or ValueError. The object must outlive `t`.
  void import(Imported& t, nb::handle object, bool writable);
  // The same with a tensor that is ours from now on, also when this throws.
  void adopt(Imported& t, DlManagedVersioned* managed);

  [[noreturn]] __attribute__((format(printf, 3, 4))) void refuse(PyObject* type, const char* format,
                                                                 ...) const;

 private:
  // From the producer's own exception.
  [[noreturn]] void refuse_from(nb::python_error& error, nb::handle object) const;
  void take(Imported& t, const aiter_tensor& tensor, bool padded);
  void from_array(Imported& t, const Array& array);
  void from_exchange(Imported& t, nb::handle object, const TypeInfo& info);
  void from_array_struct(Imported& t, nb::handle object);
  void from_dlpack(Imported& t, nb::handle object, const TypeInfo& info);
  nb::object call_dlpack(nb::handle object, const TypeInfo& info, nb::handle stream);

  const char* op_;
  const char* name_;
  StreamChoice& stream_;
};

// An array over the object's memory, which it keeps alive.
Array array_over(nb::handle object, const char* op);
Array array_over(DlManagedVersioned* managed);

}  // namespace aiter::python
