#include "brick/store/handle.h"

#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <unistd.h>

#include <charconv>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "brick/store/xattr.h"
#include "brick/wire/status.h"

namespace voldfs::store {

namespace {

// How long an open waits for somebody's lease (fcntl(2), F_SETLEASE): Pins takes one for a moment.
constexpr int kLeaseTries = 100;
constexpr unsigned kLeaseWaitUs = 1'000;
constexpr int kObjectTypeShift = 24;  // the kernel's own types take two bytes

// struct file_handle with room for the largest handle that the wire takes.
struct KernelHandle {
  union {
    file_handle header;
    char room[sizeof(file_handle) + sizeof(wire::Handle::bytes)];
  };
  KernelHandle() { std::memset(room, 0, sizeof room); }
  // f_handle is declared without elements, which GCC takes by its word.
  uint8_t* bytes() { return reinterpret_cast<uint8_t*>(room) + offsetof(file_handle, f_handle); }
  const uint8_t* bytes() const { return reinterpret_cast<const uint8_t*>(room) + offsetof(file_handle, f_handle); }
};

Result<KernelHandle> name_to_handle(int dir, const char* name, int flags) {
  KernelHandle out;
  out.header.handle_bytes = sizeof(wire::Handle::bytes);
  int mount_id;
  if (::name_to_handle_at(dir, name, &out.header, &mount_id, flags) < 0) {
    return errno == EOVERFLOW ? fail(EOPNOTSUPP) : fail_errno();
  }
  return out;
}

Result<unique_fd> open_kernel_handle(int root, KernelHandle& handle, int flags) {
  unique_fd fd(::open_by_handle_at(root, &handle.header, flags));
  if (!fd) return fail_errno();
  return fd;
}

wire::Handle to_wire(const KernelHandle& handle, wire::ObjectType type) {
  wire::Handle out{};
  out.size = static_cast<uint8_t>(handle.header.handle_bytes);
  out.type = handle.header.handle_type | static_cast<int32_t>(type) << kObjectTypeShift;
  std::memcpy(out.bytes, handle.bytes(), out.size);
  return out;
}

bool may_open_for_io(wire::ObjectType type) {
  return type == wire::ObjectType::kFile || type == wire::ObjectType::kDirectory;
}

// O_TRUNC would come before the id is known to be right; the other two make no sense with a handle.
int safe_flags(wire::ObjectType type, int flags) {
  constexpr int kAlways = O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK;
  if (!may_open_for_io(type)) return O_PATH | O_CLOEXEC | O_NOFOLLOW;
  return (flags & ~(O_TRUNC | O_CREAT | O_EXCL)) | kAlways;
}

// A context of SipHash-2-4 with 8 bytes of output, one a thread: making one costs more than the MAC.
class SipHash {
 public:
  SipHash() {
    std::unique_ptr<EVP_MAC, decltype(&EVP_MAC_free)> mac(EVP_MAC_fetch(nullptr, "SIPHASH", nullptr), EVP_MAC_free);
    context_.reset(mac ? EVP_MAC_CTX_new(mac.get()) : nullptr);
    unsigned size = sizeof(uint64_t);
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_uint(OSSL_MAC_PARAM_SIZE, &size), OSSL_PARAM_construct_end()};
    if (!context_ || EVP_MAC_CTX_set_params(context_.get(), params) != 1) give_up();
  }

  uint64_t operator()(std::span<const uint8_t> key, std::span<const uint8_t> data) {
    uint64_t out = 0;
    size_t size = 0;
    if (EVP_MAC_init(context_.get(), key.data(), key.size(), nullptr) != 1 ||
        EVP_MAC_update(context_.get(), data.data(), data.size()) != 1 ||
        EVP_MAC_final(context_.get(), reinterpret_cast<unsigned char*>(&out), &size, sizeof out) != 1 ||
        size != sizeof out) {
      give_up();
    }
    return out;
  }

 private:
  // Without a MAC nothing may be served: a handle would open whatever a client asks for.
  [[noreturn]] static void give_up() {
    std::fputs("voldbrick: OpenSSL's default provider has no SipHash, which the handles need\n", stderr);
    std::abort();
  }

  std::unique_ptr<EVP_MAC_CTX, decltype(&EVP_MAC_CTX_free)> context_{nullptr, EVP_MAC_CTX_free};
};

// What the MAC is over.
struct MacInput {
  Id id;
  int32_t type;
  uint8_t size;
  uint8_t zero[3];
  uint8_t bytes[sizeof(wire::Handle::bytes)];
};
static_assert(sizeof(MacInput) == 56);

bool is_well_formed(const wire::Handle& handle) {
  return handle.size > 0 && handle.size <= sizeof handle.bytes && handle.reserved[0] == 0 &&
         handle.reserved[1] == 0 && handle.reserved[2] == 0;
}

}  // namespace

Handles::Handles(int root, std::span<const uint8_t> key) : root_(root), key_{} {
  if (key.size() < key_.size()) std::abort();
  std::memcpy(key_.data(), key.data(), key_.size());
}

uint64_t Handles::mac(const wire::Handle& handle, const Id& id) const {
  thread_local SipHash sip_hash;
  MacInput input{};
  input.id = id, input.type = handle.type, input.size = handle.size;
  std::memcpy(input.bytes, handle.bytes, handle.size);
  return sip_hash(key_, {reinterpret_cast<const uint8_t*>(&input), sizeof input});
}

Result<wire::Handle> Handles::make(int fd, const Id& id, wire::ObjectType type) const {
  auto found = name_to_handle(fd, "", AT_EMPTY_PATH);
  if (!found) return fail(found.error());
  wire::Handle out = to_wire(*found, type);
  out.mac = mac(out, id);
  return out;
}

Result<wire::Handle> Handles::make_at(int dir, const char* name, const Id& id, wire::ObjectType type) const {
  auto found = name_to_handle(dir, name, 0);
  if (!found) return fail(found.error());
  wire::Handle out = to_wire(*found, type);
  out.mac = mac(out, id);
  return out;
}

wire::ObjectType Handles::type_of(const wire::Handle& handle) {
  return static_cast<wire::ObjectType>(static_cast<uint32_t>(handle.type) >> kObjectTypeShift);
}

Result<unique_fd> Handles::open(const wire::ObjectRef& object, int flags) const {
  const wire::Handle& handle = object.handle;
  if (!is_well_formed(handle) || mac(handle, object.id) != handle.mac) return fail(wire::kStaleHandle);
  const wire::ObjectType type = type_of(handle);
  KernelHandle kernel;
  kernel.header.handle_bytes = handle.size;
  kernel.header.handle_type = handle.type & ((1 << kObjectTypeShift) - 1);
  std::memcpy(kernel.bytes(), handle.bytes, handle.size);
  auto fd = open_kernel_handle(root_, kernel, safe_flags(type, flags));
  for (int tries = 0; !fd && fd.error().code == EAGAIN && tries < kLeaseTries; ++tries) {
    ::usleep(kLeaseWaitUs);
    fd = open_kernel_handle(root_, kernel, safe_flags(type, flags));
  }
  if (!fd) {
    // Of a handle with a right MAC these say that the file system below is another one than it was.
    const int code = fd.error().code;
    return code == ESTALE || code == ENOENT || code == EINVAL || code == EOVERFLOW ? fail(wire::kStaleHandle)
                                                                                  : fail(code);
  }
  auto id = get_id(fd->get());
  if (!id) return id.error().code == ENODATA ? fail(wire::kStaleHandle) : fail(id.error());
  if (*id != object.id) return fail(wire::kStaleHandle);
  return fd;
}

Result<std::string> Handles::index_text(int fd) const {
  auto found = name_to_handle(fd, "", AT_EMPTY_PATH);
  if (!found) return fail(found.error());
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text = std::to_string(found->header.handle_type) + ":";
  for (unsigned i = 0; i < found->header.handle_bytes; ++i) {
    text += kDigits[found->bytes()[i] >> 4];
    text += kDigits[found->bytes()[i] & 15];
  }
  return text;
}

Result<unique_fd> Handles::open_index_text(std::string_view text, int flags) const {
  KernelHandle kernel;
  const char* const end = text.data() + text.size();
  auto [digits, error] = std::from_chars(text.data(), end, kernel.header.handle_type);
  if (error != std::errc() || digits == end || *digits != ':') return fail(EINVAL);
  const std::string_view hex(digits + 1, static_cast<size_t>(end - digits - 1));
  if (hex.empty() || hex.size() % 2 != 0 || hex.size() / 2 > sizeof(wire::Handle::bytes)) return fail(EINVAL);
  kernel.header.handle_bytes = static_cast<unsigned>(hex.size() / 2);
  for (size_t i = 0; i < hex.size(); i += 2) {
    const char* const byte_end = hex.data() + i + 2;
    auto [stop, bad] = std::from_chars(hex.data() + i, byte_end, kernel.bytes()[i / 2], 16);
    if (bad != std::errc() || stop != byte_end) return fail(EINVAL);
  }
  return open_kernel_handle(root_, kernel, flags | O_CLOEXEC | O_NOFOLLOW);
}

}  // namespace voldfs::store
