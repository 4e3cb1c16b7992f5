package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/hub/hubd"
)

func peersCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "peers",
		Short: "List and change the sites' ends of the WireGuard tunnel",
		Long:  "Enrolment adds peers by itself; these commands are for looking, for set-ups made by hand, and for changing keys.\nThey work beside a running hub, which follows within moments.",
	}
	cmd.AddCommand(peersListCommand(o), peersShowCommand(o), peersAddCommand(o), peersRotateCommand(o), peersRemoveCommand(o), peersImportCommand(o), peersExportCommand(o))
	return cmd
}

// peerView is a peer as printed.
type peerView struct {
	SiteID           string     `json:"site_id"`
	SiteName         string     `json:"site_name"`
	State            string     `json:"state"`
	PublicKey        string     `json:"public_key"`
	Address          string     `json:"address"`
	Networks         []string   `json:"networks"`
	Endpoint         string     `json:"endpoint,omitempty"`
	KeepaliveS       int        `json:"keepalive_s"`
	NextPublicKey    string     `json:"next_public_key,omitempty"`
	RotateWantedAt   *time.Time `json:"rotate_wanted_at,omitempty"`
	QuarantineReason string     `json:"quarantine_reason,omitempty"`
	ObservedEndpoint string     `json:"observed_endpoint,omitempty"`
	HandshakeAt      *time.Time `json:"handshake_at,omitempty"`
	ReceivedBytes    uint64     `json:"received_bytes"`
	SentBytes        uint64     `json:"sent_bytes"`
	AddedAt          time.Time  `json:"added_at"`
	RemovedAt        *time.Time `json:"removed_at,omitempty"`
}

func viewPeer(p *hubd.Peer, now time.Time) peerView {
	v := peerView{
		SiteID: p.Site.String(), SiteName: p.SiteName, State: p.State(now), PublicKey: p.PublicKey.String(), Address: p.Address.String(), Networks: []string{}, Endpoint: p.Endpoint,
		KeepaliveS: int(p.Keepalive / time.Second), RotateWantedAt: known(p.RotateWanted), QuarantineReason: p.QuarantineReason, ObservedEndpoint: p.Observed.Endpoint,
		HandshakeAt: known(p.Observed.Handshake), ReceivedBytes: p.Observed.Received, SentBytes: p.Observed.Sent, AddedAt: p.AddedAt, RemovedAt: known(p.RemovedAt),
	}
	if v.RemovedAt != nil {
		v.State = "removed"
	}
	for _, n := range p.Networks {
		v.Networks = append(v.Networks, n.String())
	}
	if !p.NextKey.IsZero() {
		v.NextPublicKey = p.NextKey.String()
	}
	return v
}

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// ago says how long ago something was, or that it never was.
func ago(t *time.Time, now time.Time) string {
	if t == nil {
		return "never"
	}
	return max(0, now.Sub(*t)).Truncate(time.Second).String()
}

func peersListCommand(o *options) *cobra.Command {
	var removed bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List peers with what the hub last saw of them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			now := time.Now()
			views, rows := []peerView{}, []string{}
			owner, err := hubd.Peers(cmd.Context(), database(c, commandLog()), tunnel(c), removed, func(page []hubd.Peer) error {
				for i := range page {
					v := viewPeer(&page[i], now)
					views = append(views, v)
					rows = append(rows, strings.Join([]string{
						plain(v.SiteName), v.Address, v.State, ago(v.HandshakeAt, now), plain(v.ObservedEndpoint), strconv.FormatUint(v.ReceivedBytes, 10), strconv.FormatUint(v.SentBytes, 10), v.PublicKey,
					}, "\t"))
				}
				return nil
			})
			if err != nil {
				return err
			}
			sayOwner(cmd.ErrOrStderr(), owner, now)
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), views)
			}
			return writeTable(cmd.OutOrStdout(), "SITE\tADDRESS\tSTATE\tHANDSHAKE AGO\tCALLS FROM\tRECEIVED\tSENT\tPUBLIC KEY", rows)
		},
	}
	cmd.Flags().BoolVar(&removed, "all", false, "removed peers too")
	return cmd
}

// sayOwner tells which hub process has the tunnel, where that is not as it should be.
func sayOwner(w io.Writer, owner hubd.TunnelOwner, now time.Time) {
	switch {
	case owner.Host == "":
		fmt.Fprintln(w, "no hub process has had the tunnel yet: what is shown is what shall be")
	case hubd.Stale(owner, now):
		fmt.Fprintf(w, "no hub process has the tunnel now; %s last had it, %s ago\n", plain(owner.Host), now.Sub(owner.SeenAt).Truncate(time.Second))
	case owner.Problem != "":
		fmt.Fprintf(w, "the tunnel on %s has a problem: %s\n", plain(owner.Host), plain(owner.Problem))
	}
}

// showPeer prints one peer.
func showPeer(w io.Writer, o *options, p *hubd.Peer) error {
	now := time.Now()
	v := viewPeer(p, now)
	if o.output == "json" {
		return writeJSON(w, v)
	}
	rows := []string{"site\t" + plain(v.SiteName) + " (" + v.SiteID + ")", "state\t" + v.State}
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, name+"\t"+value)
		}
	}
	add("quarantined because", plain(v.QuarantineReason))
	add("address", v.Address)
	add("networks", strings.Join(v.Networks, ", "))
	add("public key", v.PublicKey)
	add("next public key", v.NextPublicKey)
	if v.RotateWantedAt != nil {
		add("new key ordered", ago(v.RotateWantedAt, now)+" ago")
	}
	add("endpoint", plain(v.Endpoint))
	add("keepalive", strconv.Itoa(v.KeepaliveS)+" s")
	add("handshake", ago(v.HandshakeAt, now))
	add("calls from", plain(v.ObservedEndpoint))
	add("received", strconv.FormatUint(v.ReceivedBytes, 10)+" bytes")
	add("sent", strconv.FormatUint(v.SentBytes, 10)+" bytes")
	add("added", v.AddedAt.Format(time.RFC3339))
	return writeTable(w, "PEER\t", rows)
}

func peersShowCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "show SITE",
		Short: "Show the peer of a site, by its name or id",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			p, err := hubd.FindPeer(cmd.Context(), database(c, commandLog()), tunnel(c), args[0])
			if err != nil {
				return err
			}
			return showPeer(cmd.OutOrStdout(), o, &p)
		},
	}
}

func peersAddCommand(o *options) *cobra.Command {
	var order hubd.PeerOrder
	var address, out string
	var networks []string
	cmd := &cobra.Command{
		Use:   "add SITE --public-key KEY --out FILE",
		Short: "Add the peer of a site by hand, and write the configuration of its end",
		Long: "For sites that do not enrol, such as a router's own WireGuard. The key pair is made at the site (wg genkey | wg pubkey); only the\n" +
			"public key is given here. The file (mode 0600) holds the preshared key: bring it to the site and remove it here.\n" +
			"The same site and key again change nothing and write the file again.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			order.Site = args[0]
			if address != "" {
				if order.Address, err = netip.ParseAddr(address); err != nil {
					return fmt.Errorf("address %.60q: want one such as 10.8.0.7", address)
				}
			}
			for _, n := range networks {
				p, err := netip.ParsePrefix(n)
				if err != nil {
					return fmt.Errorf("network %.60q: want one such as 192.168.7.0/24", n)
				}
				order.Networks = append(order.Networks, p)
			}
			file, err := makeFile(out, 0o600, true)
			if err != nil {
				return fmt.Errorf("the configuration's file: %w", err)
			}
			defer file.drop()
			p, conf, err := hubd.AddPeer(cmd.Context(), database(c, commandLog()), tunnel(c), order)
			if err != nil {
				return err
			}
			if err := file.put(conf); err != nil {
				return fmt.Errorf("the peer was added but its file not written (%w): run the command again", err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "the site's configuration is in %s\n", out)
			return showPeer(cmd.OutOrStdout(), o, &p)
		},
	}
	f := cmd.Flags()
	f.StringVar(&order.PublicKey, "public-key", "", "the site's WireGuard public key")
	f.StringVar(&out, "out", "", "file for the configuration of the site's end")
	f.StringVar(&address, "address", "", "the site's address inside the tunnel; default: its own, or the next free one")
	f.StringVar(&order.Endpoint, "endpoint", "", "host:port where the hub calls the site; default: the site calls")
	f.StringSliceVar(&networks, "network", nil, "network behind the site, reached through the tunnel; may be given several times")
	f.BoolVar(&order.Replace, "replace", false, "the site has a peer with another key: this one takes its place at once")
	for _, name := range []string{"public-key", "out"} {
		_ = cmd.MarkFlagRequired(name) // fails only for a flag that does not exist
	}
	return cmd
}

func peersRotateCommand(o *options) *cobra.Command {
	var hub, finish, yes bool
	cmd := &cobra.Command{
		Use:   "rotate SITE | rotate --hub [--finish --yes]",
		Short: "Change the key of a site, or the hub's own",
		Long: "A site makes its new key itself and takes it into use when it next asks the hub; until then the present one counts.\n\n" +
			"--hub makes a new key of the hub's, with a second device on the next port, which the firewall must let in; sites go over when they\n" +
			"next ask. When peers list shows that they have, --hub --finish ends the old key; a site that has not gone over by then comes over TCP.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if hub == (len(args) == 1) || finish && !hub {
				return errors.New("name a site, or give --hub (and perhaps --finish) to change the hub's own key")
			}
			if finish && !yes {
				return errors.New("sites that still use the old key would lose their tunnel: look at peers list, then give --yes")
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			if !hub {
				p, err := hubd.RotatePeer(cmd.Context(), database(c, commandLog()), tunnel(c), args[0])
				if err != nil {
					return err
				}
				return showPeer(cmd.OutOrStdout(), o, &p)
			}
			k, endpoint, err := hubd.RotateHubKey(cmd.Context(), database(c, commandLog()), tunnel(c), finish)
			if err != nil {
				return err
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), map[string]any{"public_key": k.Public.String(), "udp_port": k.Port, "endpoint": endpoint})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "sites are told: key %s at %s (UDP port %d here)\n", k.Public, endpoint, k.Port)
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVar(&hub, "hub", false, "the hub's own key")
	f.BoolVar(&finish, "finish", false, "end the hub's old key")
	f.BoolVar(&yes, "yes", false, "yes, end it")
	return cmd
}

func peersRemoveCommand(o *options) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "remove SITE --yes",
		Short: "Remove the peer of a site; its certificate stays valid (site revoke ends both)",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				return errors.New("the site's tunnel would end: give --yes")
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			p, err := hubd.RemovePeer(cmd.Context(), database(c, commandLog()), tunnel(c), args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "the peer of %s (%s) is removed; the address stays that site's\n", plain(p.SiteName), p.Address)
			return err
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "yes, remove it")
	return cmd
}

func peersImportCommand(o *options) *cobra.Command {
	var adopt, dry bool
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Take over the peers of a wg-quick file such as /etc/wireguard/wg0.conf, all or none",
		Long: "The comment above a [Peer], or the first one in it, is the name of its site; a site that does not exist is made and waits for its agent.\n" +
			"The first of AllowedIPs inside WG_NETWORK is the site's address, the others are the networks behind it. With --hub-key the file's PrivateKey\n" +
			"becomes the hub's, if it has none yet, so that nothing has to change at the sites.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			st, err := os.Stat(args[0])
			if err != nil {
				return err
			}
			if st.Size() > hubd.MaxPeersFile {
				return fmt.Errorf("%s is larger than %d bytes", args[0], hubd.MaxPeersFile)
			}
			file, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			got, err := hubd.ImportPeers(cmd.Context(), database(c, commandLog()), tunnel(c), file, adopt, dry)
			if err != nil {
				return fmt.Errorf("%s: nothing was taken over:\n%w", args[0], err)
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), map[string]any{"added": got.Added, "unchanged": got.Unchanged, "sites_made": got.Sites, "dry_run": dry})
			}
			what := "taken over"
			if dry {
				what = "would be taken over"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d peers %s, %d were there already; %d sites made\n", got.Added, what, got.Unchanged, got.Sites)
			return err
		},
	}
	cmd.Flags().BoolVar(&adopt, "hub-key", false, "make the file's private key the hub's own")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be done")
	return cmd
}

func peersExportCommand(o *options) *cobra.Command {
	var secrets bool
	var out string
	cmd := &cobra.Command{
		Use:   "export [--secrets --out FILE]",
		Short: "Print the peers as a wg-quick file",
		Long:  "Without --secrets it holds no key that must stay secret, and serves to look at. With it, it is a working /etc/wireguard/wg0.conf,\nand is written to a file (mode 0600).",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if secrets && out == "" {
				return errors.New("a file with secrets is not printed: name it with --out")
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			conf, err := hubd.ExportPeers(cmd.Context(), database(c, commandLog()), tunnel(c), secrets)
			if err != nil {
				return err
			}
			if out == "" {
				_, err = cmd.OutOrStdout().Write(conf)
				return err
			}
			file, err := makeFile(out, 0o600, true)
			if err != nil {
				return err
			}
			defer file.drop()
			return file.put(conf)
		},
	}
	cmd.Flags().BoolVar(&secrets, "secrets", false, "with the hub's private key and all preshared keys")
	cmd.Flags().StringVar(&out, "out", "", "file to write; default: standard output")
	return cmd
}

func wgCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "wg", Short: "Prepare a server for the tunnel"}
	var open, bare bool
	setup := &cobra.Command{
		Use:   "setup",
		Short: "Look at what this server offers to the tunnel, make the hub's key, and say what is left to do",
		Long: "Checks backend, UDP port, firewall, and what happens after a reboot. WireGuard needs one UDP port, 51820 by default: sites call it from wherever\n" +
			"they are, and it answers nobody without a known key. Nothing is changed but the hub's key, which is made if there is none, and, with\n" +
			"--open-firewall, one rule of ufw or nftables.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.load()
			if err != nil {
				return err
			}
			checks, err := hubd.CheckTunnelServer(cmd.Context(), tunnel(c), open)
			if err != nil {
				return err
			}
			var facts *hubd.TunnelFacts
			if !bare {
				if err := c.FillDevSecrets(); err != nil {
					return err
				}
				f, err := hubd.TunnelOf(cmd.Context(), database(c, commandLog()), tunnel(c))
				if err != nil {
					return fmt.Errorf("the hub's key: %w (--no-database leaves it out)", err)
				}
				facts = &f
			}
			todo := 0
			rows := make([]string, len(checks))
			for i, k := range checks {
				rows[i] = k.Name + "\t" + k.State + "\t" + plain(k.Found)
				if k.State == "todo" {
					todo++
				}
			}
			w := cmd.OutOrStdout()
			if o.output == "json" {
				all := map[string]any{"checks": checks}
				if facts != nil {
					all["public_key"], all["endpoint"], all["address"], all["network"] = facts.PublicKey.String(), facts.Endpoint, facts.Address, facts.Network
				}
				return writeJSON(w, all)
			}
			if err := writeTable(w, "CHECK\tSTATE\tFOUND", rows); err != nil {
				return err
			}
			for _, k := range checks {
				if k.Advice != "" {
					fmt.Fprintf(w, "\n%s: %s\n", k.Name, k.Advice)
				}
			}
			if facts != nil {
				fmt.Fprintf(w, "\nthe hub's public key: %s\nsites are told: %s; inside the tunnel the hub is %s of %s\n", facts.PublicKey, plain(facts.Endpoint), facts.Address, facts.Network)
			}
			if todo > 0 {
				fmt.Fprintf(w, "\n%d things are left to do (state todo)\n", todo)
			}
			return nil
		},
	}
	setup.Flags().BoolVar(&open, "open-firewall", false, "let the UDP port in: one rule of ufw or nftables; needs root")
	setup.Flags().BoolVar(&bare, "no-database", false, "look at the machine only")
	cmd.AddCommand(setup)
	return cmd
}
