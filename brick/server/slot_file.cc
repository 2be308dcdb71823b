#include "brick/server/slot_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "brick/base/unique_fd.h"
#include "brick/wire/frame.h"

namespace voldfs::server {

namespace {

constexpr const char* kFolder = "sessions";

size_t file_bytes(uint32_t slots) { return kSlotFileHeader + size_t{slots} * kSlotBytes; }

void* map_shared(int fd, size_t bytes) { return ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0); }

void fill_header(void* memory, const Id& boot, uint64_t session, const Id& client, uint32_t slots) {
  auto* header = static_cast<SlotFileHeader*>(memory);
  *header = {0, session, client, slots, kSlotBytes, 0, boot};
  // Last, so that a file that was cut before it is no session.
  std::atomic_ref(header->magic).store(kSlotFileMagic, std::memory_order_release);
}

}  // namespace

Result<std::unique_ptr<SlotFile>> SlotFile::create(int dot, const Id& boot, uint64_t session, const Id& client,
                                                   uint32_t slots) {
  const std::string name = std::string(kFolder) + "/" + std::to_string(session);
  if (::mkdirat(dot, kFolder, 0700) != 0 && errno != EEXIST) return fail_errno();
  const unique_fd fd(::openat(dot, name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd) return fail_errno();
  const size_t bytes = file_bytes(slots);
  int error = ::posix_fallocate(fd.get(), 0, static_cast<off_t>(bytes));
  void* memory = error == 0 ? map_shared(fd.get(), bytes) : MAP_FAILED;
  if (error == 0 && memory == MAP_FAILED) error = errno;
  if (error == 0) {
    std::unique_ptr<SlotFile> file(new SlotFile(memory, bytes));
    fill_header(memory, boot, session, client, slots);
    return file;
  }
  ::unlinkat(dot, name.c_str(), 0);
  return fail(error);
}

Result<std::unique_ptr<SlotFile>> SlotFile::create_volatile(const Id& boot, uint64_t session, const Id& client,
                                                            uint32_t slots) {
  const size_t bytes = file_bytes(slots);
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return fail_errno();
  std::unique_ptr<SlotFile> file(new SlotFile(memory, bytes));
  fill_header(memory, boot, session, client, slots);
  return file;
}

Result<std::unique_ptr<SlotFile>> SlotFile::open(int dot, const Id& boot, const std::string& name) {
  const std::string path = std::string(kFolder) + "/" + name;
  const unique_fd fd(::openat(dot, path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return fail_errno();
  struct stat stat;
  if (::fstat(fd.get(), &stat) != 0) return fail_errno();
  if (!S_ISREG(stat.st_mode) || stat.st_size < static_cast<off_t>(kSlotFileHeader)) return fail(EPROTO);

  SlotFileHeader header;
  if (::pread(fd.get(), &header, sizeof header, 0) != sizeof header) return fail(EPROTO);
  if (header.magic != kSlotFileMagic || header.slots == 0 || header.slots > wire::kSlotsMax ||
      header.slot_bytes != kSlotBytes || name != std::to_string(header.session) ||
      static_cast<size_t>(stat.st_size) != file_bytes(header.slots)) {
    return fail(EPROTO);
  }
  if (header.boot != boot) return fail(ESTALE);
  void* memory = map_shared(fd.get(), static_cast<size_t>(stat.st_size));
  if (memory == MAP_FAILED) return fail_errno();
  return std::unique_ptr<SlotFile>(new SlotFile(memory, static_cast<size_t>(stat.st_size)));
}

SlotFile::~SlotFile() { ::munmap(memory_, bytes_); }

void SlotFile::set_lease_end(int64_t boottime_ms) {
  if (frozen()) return;
  std::atomic_ref(header_->lease_end_ms).store(boottime_ms, std::memory_order_relaxed);
}

SlotState SlotFile::state(uint32_t slot) const {
  const uint32_t state = std::atomic_ref(record(slot).state).load(std::memory_order_acquire);
  return state <= static_cast<uint32_t>(SlotState::kDone) ? static_cast<SlotState>(state) : SlotState::kEmpty;
}

void SlotFile::set_state(uint32_t slot, SlotState state) {
  std::atomic_ref(record(slot).state).store(static_cast<uint32_t>(state), std::memory_order_release);
  // Nor may what follows move before it: after kill -9 the state must not be behind the record's other fields.
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

void SlotFile::begin(uint32_t slot, uint64_t sequence) {
  set_state(slot, SlotState::kBegun);  // from here on the old reply counts no more
  record(slot).sequence = sequence;
}

void SlotFile::note(uint32_t slot, const Intent& intent) {
  record(slot).intent = intent;
  set_state(slot, SlotState::kNoted);
}

void SlotFile::forget(uint32_t slot) {
  if (!frozen()) set_state(slot, SlotState::kEmpty);
}

void SlotFile::finish(uint32_t slot, const wire::ReplyBuilder& reply) {
  if (frozen()) return;
  SlotRecord& to = record(slot);
  const size_t bytes = sizeof reply.header + reply.header.body_size + reply.name.size() + reply.name2.size();
  if (bytes > sizeof to.reply) std::abort();  // an operation marked `once` whose reply does not fit: a programmer's error
  std::byte* at = to.reply;
  const auto put = [&at](const void* data, size_t size) {
    if (size != 0) std::memcpy(at, data, size);
    at += size;
  };
  wire::ReplyHeader header = reply.header;
  header.name_size = static_cast<uint16_t>(reply.name.size());
  header.name2_size = static_cast<uint16_t>(reply.name2.size());
  header.data_size = 0;
  header.flags = static_cast<uint16_t>(header.flags & ~wire::kFlagDirectories);
  put(&header, sizeof header);
  put(reply.body.data(), reply.header.body_size);
  put(reply.name.data(), reply.name.size());
  put(reply.name2.data(), reply.name2.size());
  to.reply_bytes = static_cast<uint32_t>(bytes);
  set_state(slot, SlotState::kDone);
}

void SlotFile::finish_with(uint32_t slot, int status, wire::ReplyBuilder& reply) {
  wire::ReplyHeader& header = reply.header;
  header.magic = wire::kReplyMagic;
  header.version = wire::kVersion;
  header.op = intent(slot).op;
  header.status = static_cast<uint32_t>(status);
  header.sequence = sequence(slot);
  finish(slot, reply);
}

void SlotFile::recall(uint32_t slot, wire::ReplyBuilder& reply) const {
  const SlotRecord& from = record(slot);
  wire::ReplyHeader header;
  std::memcpy(&header, from.reply, sizeof header);
  const size_t front = wire::front_size(header);
  // The file may have been damaged while nobody served it.
  if (!wire::check_header(header) || from.reply_bytes > sizeof from.reply || sizeof header + front != from.reply_bytes) {
    reply.header.status = wire::kUnsettled;
    return;
  }
  reply.header = header;
  std::memcpy(reply.body.data(), from.reply + sizeof header, header.body_size);
  const auto* text = reinterpret_cast<const char*>(from.reply) + sizeof header + header.body_size;
  reply.name.assign(text, header.name_size);
  reply.name2.assign(text + header.name_size, header.name2_size);
}

}  // namespace voldfs::server
