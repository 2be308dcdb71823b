#include "dht/file_call.h"

// Extended attributes, ACLs among them. Of a directory they are home's, and copied to the bricks that hold it: a
// default ACL works on each brick as on a local file system.
namespace voldfs::dht {
namespace {

constexpr uint32_t kValueMax = 64 * 1024;  // XATTR_SIZE_MAX and XATTR_LIST_MAX of Linux

constexpr std::string_view kCapability = "security.capability";

bool has_none(const Volume::Impl& volume, const NodePtr& node) {
  if (node->is_directory()) return false;
  const Grant grant = node->no_xattrs();
  return Grants::Delivery(volume.grants).seconds(node->id(), {&grant, 1}) > 0;
}

// Of which ENODATA is what an absent one is; the brick knows what else there is.
bool is_usual(std::string_view name) {
  if (name == "system.posix_acl_access") return true;
  if (name.starts_with("trusted.voldfs.")) return false;
  const auto is_in = [name](std::string_view space) { return name.starts_with(space) && name.size() > space.size(); };
  return is_in("user.") || is_in("security.") || is_in("trusted.");
}

Result<std::vector<std::byte>> ask_value(Volume::Impl& volume, wire::Op op, const NodePtr& node, std::string_view name,
                                         const Caller& caller, wire::Reply* refusal = nullptr) {
  wire::XattrBody body{};
  body.size_max = kValueMax;
  const auto make = [&](const wire::ObjectRef& object) {
    body.object = object;
    return wire::Request(op, body, name);
  };
  // A directory's backup answers while home is down.
  const uint16_t backup = node->is_directory() ? node->record().backup : uint16_t{0};
  const Caller quick = backup != 0 ? unless_down(caller) : caller;
  auto reply = volume.call_object(node, make, quick, refusal);
  if (!reply && reply.error().code == EHOSTDOWN && backup != 0) {
    reply = volume.call(backup, make(volume.object_ref(node)), quick);
    if (!reply && reply.error().code == EHOSTDOWN) reply = volume.call_object(node, make, caller);
  }
  if (!reply) return fail(reply.error());
  return std::vector<std::byte>(reply->data.begin(), reply->data.end());
}

}  // namespace

Result<std::vector<std::byte>> Volume::getxattr(const NodePtr& node, std::string_view name, const Caller& caller) {
  if (is_usual(name) && has_none(*impl_, node)) return fail(ENODATA);
  const bool remembered = name == kCapability && !node->is_directory();
  if (remembered) {
    const Grant grant = node->no_capability();
    if (Grants::Delivery(impl_->grants).seconds(node->id(), {&grant, 1}) > 0) return fail(ENODATA);
  }
  wire::Reply refusal;
  auto value = ask_value(*impl_, wire::Op::kGetxattr, node, name, caller, &refusal);
  if (remembered && !value && value.error().code == ENODATA) node->note_no_capability(grant_of(refusal));
  return value;
}

Result<std::vector<std::byte>> Volume::listxattr(const NodePtr& node, const Caller& caller) {
  if (has_none(*impl_, node)) return std::vector<std::byte>();
  return ask_value(*impl_, wire::Op::kListxattr, node, {}, caller);
}

Result<void> Volume::setxattr(const NodePtr& node, std::string_view name, std::span<const std::byte> value, uint32_t flags, const Caller& caller) {
  wire::XattrBody body{};
  body.flags = flags;
  constexpr uint32_t kCreateOrReplace = 3;
  uint16_t brick = 0;
  const auto reply = change_object(
      *impl_, node,
      [&](const wire::ObjectRef& object, uint64_t change) {
        body.object = object, body.change = change;
        if (change != 0) body.flags &= ~kCreateOrReplace;  // home has decided whether there is one
        return wire::Request(wire::Op::kSetxattr, body, name, {}, value);
      },
      caller, &brick);
  if (name == kCapability) node->note_no_capability({});
  if (reply) node->note_xattrs_changed(age_of(*reply));
  else if (is_unknown(reply.error())) node->note_xattrs_changed({UINT64_MAX, UINT64_MAX, 0, 0});
  if (!reply) return fail(reply.error());
  return {};
}

Result<void> Volume::removexattr(const NodePtr& node, std::string_view name, const Caller& caller) {
  wire::XattrBody body{};
  uint16_t brick = 0;
  const auto reply = change_object(
      *impl_, node,
      [&](const wire::ObjectRef& object, uint64_t change) {
        body.object = object, body.change = change;
        return wire::Request(wire::Op::kRemovexattr, body, name);
      },
      caller, &brick);
  if (!reply) return fail(reply.error());
  return {};
}

}  // namespace voldfs::dht
