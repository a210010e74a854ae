// Generic netlink (src/platform/nbd-kernel.ts), and the descriptor of a connection that the kernel is to
// have.
#include <errno.h>
#include <fcntl.h>

#include <memory>
#include <string>

#include "../core/generic-netlink.h"
#include "arguments.h"
#include "bindings.h"
#include "instance.h"

namespace keepgate {
namespace {

constexpr int64_t kDescriptorMax = 0x7fffffff;
constexpr size_t kAttributeBytesMax = 32 * 1024;
constexpr napi_type_tag kLinkTag = {0x6b65657067617465, 0x6e65746c696e6b31};

// What JavaScript holds. A Next that waits ends before the environment's lanes are waited for.
struct Link {
  explicit Link(napi_env environment) : env(environment) {}
  ~Link() { napi_remove_env_cleanup_hook(env, CancelLink, this); }
  static void CancelLink(void* data) { static_cast<Link*>(data)->netlink->Cancel(); }

  const napi_env env;
  std::shared_ptr<GenericNetlink> netlink;
};

bool GetLink(const Arguments& arguments, Link** link) {
  void* data = nullptr;
  bool tagged = false;
  if (napi_check_object_type_tag(arguments.env(), arguments.value(0), &kLinkTag, &tagged) != napi_ok ||
      !tagged || napi_get_value_external(arguments.env(), arguments.value(0), &data) != napi_ok) {
    return arguments.ThrowType("link must come from openNetlink");
  }
  *link = static_cast<Link*>(data);
  return true;
}

Lane* NetlinkLane(Instance& instance) {
  // One command, and one wait for the next message.
  return instance.LaneAt(instance.LaneNumber("netlink", "kg-netlink", 2));
}

// openNetlink(family, group): the link, or a negative errno
napi_value OpenNetlink(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  std::string family;
  std::string group;
  if (!arguments.Text(0, "family", &family) || !arguments.Text(1, "group", &group)) return nullptr;
  std::unique_ptr<GenericNetlink> netlink;
  const int64_t result = GenericNetlink::Open(family, group, &netlink);
  if (result < 0) return arguments.Number(static_cast<double>(result));
  auto link = std::make_unique<Link>(env);
  link->netlink = std::move(netlink);
  napi_value value = nullptr;
  const auto finalize = [](napi_env, void* data, void*) { delete static_cast<Link*>(data); };
  if (napi_create_external(env, link.get(), finalize, nullptr, &value) != napi_ok) return nullptr;
  napi_add_env_cleanup_hook(env, Link::CancelLink, link.get());
  static_cast<void>(link.release());
  if (napi_type_tag_object(env, value, &kLinkTag) != napi_ok) return nullptr;
  return value;
}

// netlinkRequest(link, command, version, attributes): a promise of the answer's attributes or a negative
// errno
napi_value NetlinkRequest(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  Link* link;
  int64_t command;
  int64_t version;
  ByteView attributes;
  if (!GetLink(arguments, &link) || !arguments.Integer(1, "command", 255, &command) ||
      !arguments.Integer(2, "version", 255, &version) || !arguments.Bytes(3, "attributes", &attributes)) {
    return nullptr;
  }
  if (attributes.length > kAttributeBytesMax) {
    arguments.ThrowRange("attributes must not be longer than 32 KiB");
    return nullptr;
  }
  NetlinkBytes sent(attributes.bytes, attributes.bytes + attributes.length);
  return arguments.instance().Run(
      NetlinkLane(arguments.instance()),
      [netlink = link->netlink, command, version, sent = std::move(sent)]() -> Outcome {
        NetlinkBytes reply;
        const int64_t result =
            netlink->Request(static_cast<uint8_t>(command), static_cast<uint8_t>(version), sent, &reply);
        if (result < 0) return result;
        return reply;
      });
}

// netlinkNext(link): a promise of the next message as its command, one byte, and its attributes; or a
// negative errno
napi_value NetlinkNext(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  Link* link;
  if (!GetLink(arguments, &link)) return nullptr;
  return arguments.instance().Run(NetlinkLane(arguments.instance()), [netlink = link->netlink]() -> Outcome {
    NetlinkBytes message;
    const int64_t command = netlink->Next(&message);
    if (command < 0) return command;
    message.insert(message.begin(), static_cast<uint8_t>(command));
    return message;
  });
}

// cancelNetlink(link): ends netlinkNext for good
napi_value CancelNetlink(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  Link* link;
  if (!GetLink(arguments, &link)) return nullptr;
  link->netlink->Cancel();
  return arguments.Number(0);
}

// duplicateDescriptor(fd): another descriptor of the same open file, or a negative errno
napi_value DuplicateDescriptor(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  int64_t fd;
  if (!arguments.Integer(0, "fd", kDescriptorMax, &fd)) return nullptr;
  const int copy = fcntl(static_cast<int>(fd), F_DUPFD_CLOEXEC, 3);
  return arguments.Number(copy >= 0 ? copy : -errno);
}

}  // namespace

bool DefineNetlink(napi_env env, napi_value exports, Instance* instance) {
  constexpr Binding kBindings[] = {
      {"openNetlink", OpenNetlink},
      {"netlinkRequest", NetlinkRequest},
      {"netlinkNext", NetlinkNext},
      {"cancelNetlink", CancelNetlink},
      {"duplicateDescriptor", DuplicateDescriptor},
  };
  return Define(env, exports, instance, kBindings, sizeof kBindings / sizeof *kBindings);
}

}  // namespace keepgate
