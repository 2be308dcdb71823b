// What voldbrick reads of a brick's disk: the values of trusted.voldfs.*, and a session's slot file, which others may have
// damaged while nobody served it. The first byte says which.

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <span>
#include <string>

#include "brick/base/unique_fd.h"
#include "brick/server/slot_file.h"
#include "brick/store/record.h"
#include "brick/wire/message.h"

namespace {

using namespace voldfs;
using Value = std::span<const std::byte>;

// What is understood is written back so that the next reader understands the same.
template <class Decoded, class Encode, class Decode>
void check(const Result<Decoded>& decoded, Encode encode, Decode decode) {
  if (!decoded) return;
  const store::Bytes bytes = encode(*decoded);
  const auto again = decode(bytes);
  if (!again || encode(*again) != bytes) __builtin_trap();
}

void take_xattr(uint8_t which, Value value) {
  const auto directory = [](Value bytes) { return store::decode_directory(bytes, Id{}); };
  switch (which) {
    case 0: return check(directory(value), store::encode_directory, directory);
    case 1: return check(store::decode_link(value), store::encode_link, store::decode_link);
    case 2: return check(store::decode_leaving(value), store::encode_leaving, store::decode_leaving);
    default: return check(store::decode_txn(value), store::encode_txn, store::decode_txn);
  }
}

// A directory in memory with sessions/N; gone with the process.
class Dot {
 public:
  Dot() {
    char name[] = "/dev/shm/voldfs-fuzz.XXXXXX";
    if (!::mkdtemp(name)) std::abort();
    path_ = name;
    fd_ = unique_fd(::open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ::mkdirat(fd_.get(), "sessions", 0700);
  }
  ~Dot() {
    ::unlinkat(fd_.get(), "sessions/1", 0);
    ::unlinkat(fd_.get(), "sessions", AT_REMOVEDIR);
    ::rmdir(path_.c_str());
  }
  int fd() const { return fd_.get(); }
  void write(Value slot_file) const {
    const unique_fd file(::openat(fd_.get(), "sessions/1", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (::write(file.get(), slot_file.data(), slot_file.size()) != static_cast<ssize_t>(slot_file.size())) std::abort();
  }

 private:
  std::string path_;
  unique_fd fd_;
};

// The input overwrites the beginning of a good file: magic, boot and size right, or nothing would be read.
void take_slot_file(Value value) {
  static const Dot dot;
  constexpr uint32_t kSlots = 2;
  store::Bytes bytes(server::kSlotFileHeader + kSlots * server::kSlotBytes);
  const Id boot = Id::from_bytes(reinterpret_cast<const unsigned char*>("the host's boot."));
  const server::SlotFileHeader header{server::kSlotFileMagic, 1, Id{}, kSlots, server::kSlotBytes, 0, boot};
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + server::kSlotFileHeader, value.data(), std::min(value.size(), bytes.size() - server::kSlotFileHeader));
  dot.write(bytes);
  const auto file = server::SlotFile::open(dot.fd(), boot, "1");
  if (!file) __builtin_trap();
  for (uint32_t slot = 0; slot < kSlots; ++slot) {
    (void)(*file)->state(slot);
    wire::ReplyBuilder reply;
    (*file)->recall(slot, reply);
  }
  // And a header that is not.
  dot.write(value);
  (void)server::SlotFile::open(dot.fd(), boot, "1");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const Value value(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
  if (data[0] % 5 == 4) take_slot_file(value);
  else take_xattr(data[0] % 5, value);
  return 0;
}
