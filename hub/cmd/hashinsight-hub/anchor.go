package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/hub/internal/config"
)

func anchorCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "anchor", Short: "Put the contract for anchors on a chain, and see how anchoring stands"}
	cmd.AddCommand(anchorDeployCommand(o), anchorStatusCommand(o), anchorVerifyCommand(o))
	return cmd
}

// loadChain reads the settings of the chain. A command that asks the chain alone needs no other secrets of a hub.
func (o *options) loadChain() (hubd.Chain, error) {
	c, err := o.load()
	var problems, left config.ProblemsError
	if errors.As(err, &problems) {
		for _, p := range problems {
			var required *config.RequiredError
			if !errors.As(p, &required) {
				left = append(left, p)
			}
		}
		if err = nil; len(left) > 0 {
			err = left
		}
	}
	if err != nil {
		return hubd.Chain{}, err
	}
	return c.Chain(), nil
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func anchorDeployCommand(o *options) *cobra.Command {
	var order hubd.ContractOrder
	cmd := &cobra.Command{
		Use: "deploy --admin ADDRESS", Short: "Put the contract AnchorLog on the chain", Args: cobra.NoArgs,
		Long: "Puts the contract on the chain of BLOCKCHAIN_NETWORK with the key of BLOCKCHAIN_PRIVATE_KEY or BLOCKCHAIN_KEYSTORE, which becomes the one that may anchor and pays\n" +
			"for the deployment. The admin may replace that key and nothing else: give the address of a key that is kept cold, on no machine that runs a hub.\n" +
			"The contract's address goes to standard output, to be set as BLOCKCHAIN_CONTRACT; everything else to standard error.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.loadChain()
			if err != nil {
				return err
			}
			errw := cmd.ErrOrStderr()
			d, err := hubd.DeployContract(cmd.Context(), c, order, commandLog(), func(tx [32]byte) {
				fmt.Fprintf(errw, "transaction %#x on chain %d: waiting until it is in a block\n", tx, c.ID)
			})
			if err != nil {
				return err
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), map[string]any{
					"contract": address(d.Contract), "chain_id": c.ID, "tx": fmt.Sprintf("%#x", d.Tx), "block": d.Block, "gas": d.GasUsed, "fee_wei": d.Fee.String(), "admin": address(d.Admin), "anchorer": address(d.Anchorer),
				})
			}
			fmt.Fprintf(errw, "AnchorLog is in block %d: %d gas, %s ETH\nanchorer (may append): %s\nadmin (may replace it): %s\nset BLOCKCHAIN_CONTRACT, and tell your customers:\n", d.Block, d.GasUsed, etherText(d.Fee), address(d.Anchorer), address(d.Admin))
			_, err = fmt.Fprintln(cmd.OutOrStdout(), address(d.Contract))
			return err
		},
	}
	cmd.Flags().StringVar(&order.Admin, "admin", "", "address of the admin, whose key is kept cold")
	cmd.Flags().BoolVar(&order.Dev, "dev", false, "the anchorer may be the admin too, and is without --admin; for chains that mean nothing")
	return cmd
}

func anchorVerifyCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "verify", Short: "Ask the chain whether this hub can anchor: endpoints, contract, role, funds, fees", Args: cobra.NoArgs,
		Long: "Asks the chain, not the hub; it needs the settings BLOCKCHAIN_... and BASE_RPC_URL only, changes nothing, and fails when anything keeps the hub from anchoring.\n" +
			"Where no endpoint answers, or fewer than must agree, it says so and why; what was not read is not shown.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.loadChain()
			if err != nil {
				return err
			}
			st := hubd.AskChain(cmd.Context(), c, quiet())
			if err := showChain(cmd.OutOrStdout(), o, &st); err != nil {
				return err
			}
			switch {
			case len(st.Problems) > 0 && !st.Read():
				return fmt.Errorf("nothing could be read from the chain: %w", errors.Join(st.Problems...))
			case len(st.Problems) > 0:
				return fmt.Errorf("this hub cannot anchor: %w", errors.Join(st.Problems...))
			}
			return nil
		},
	}
}

func anchorStatusCommand(o *options) *cobra.Command {
	limit := 10
	cmd := &cobra.Command{
		Use: "status", Short: "Show how anchoring stands, and the newest anchors", Args: cobra.NoArgs,
		Long: "Shows what the hub's database knows; it asks no chain, which anchor verify does. What keeps the hub from anchoring is in the row PROBLEM, with what to do.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			st, err := hubd.AnchorStatus(cmd.Context(), database(c, commandLog()), c.Chain(), min(max(limit, 1), 500))
			if err != nil {
				return err
			}
			w, k := cmd.OutOrStdout(), &st.Known
			if o.output == "json" {
				return writeJSON(w, map[string]any{"status": k, "anchors": st.Anchor})
			}
			rows := []string{
				fmt.Sprintf("network\t%s (chain %d)", k.Network, k.ChainID), "contract\t" + k.Contract, "account\t" + k.Account,
				fmt.Sprintf("endpoints\t%d", k.Endpoints), fmt.Sprintf("log\t%d entries", k.LogSize), "blocks\t" + blocksText(k), "chain last asked\t" + timeText(k.CheckedAt), "chain last answered\t" + timeText(k.AnsweredAt), "whole log anchored\t" + timeText(k.CoveredAt),
			}
			if k.Vanished > 0 {
				rows = append(rows, fmt.Sprintf("VANISHED\t%d anchors were final and are in no block now: proofs over them are suspended", k.Vanished))
			}
			if k.Overdue {
				rows = append(rows, "OVERDUE\tnothing has come into a block for 6 hours")
			}
			if k.Problem != nil {
				text := k.Problem.Text
				if k.ProblemSince != nil {
					text += " (since " + timeText(k.ProblemSince) + ")"
				}
				rows = append(rows, "PROBLEM\t"+strings.ReplaceAll(text, "\n", "; "))
			}
			if err := writeTable(w, "WHAT\tHOW IT STANDS", rows); err != nil || len(st.Anchor) == 0 {
				return err
			}
			rows = nil
			for i := range st.Anchor {
				a := &st.Anchor[i]
				rows = append(rows, fmt.Sprintf("%d\t%s\t%d\t%s\t%d\t%s\t%s", a.Seq, a.State, a.Size, timeText(a.BlockTime), a.BlockNumber, a.LateReason, a.TxHash))
			}
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
			return writeTable(w, "SEQ\tSTATE\tENTRIES\tBLOCK TIME\tBLOCK\tLATE\tTRANSACTION", rows)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", limit, "how many anchors, 1 to 500")
	return cmd
}

// blocksText says how far the chain was when it last answered.
func blocksText(k *hubd.AnchorStanding) string {
	if k.AnsweredAt == nil {
		return "not known: the chain has never answered"
	}
	return fmt.Sprintf("latest %d, safe %d, finalized %d", k.LatestBlock, k.SafeBlock, k.FinalizedBlock)
}

func timeText(t *hubd.Time) string {
	if t == nil {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}

func address(a [20]byte) string { return hubd.AddressText(a) }

// showChain prints how the chain stands.
func showChain(w io.Writer, o *options, st *hubd.ChainState) error {
	problems := make([]string, len(st.Problems))
	for i, p := range st.Problems {
		problems[i] = p.Error()
	}
	if o.output == "json" {
		type endpoint struct {
			Name   string `json:"name"`
			Reason string `json:"set_aside,omitempty"`
		}
		list := make([]endpoint, len(st.Endpoints))
		for i, e := range st.Endpoints {
			list[i] = endpoint{e.Name, e.Reason}
		}
		v := map[string]any{
			"network": st.Network, "chain_id": st.ChainID, "contract": st.Contract, "account": st.Account, "may_anchor": st.MayAnchor, "account_is_admin": st.Admin,
			"endpoints": list, "must_agree": st.Agree, "problems": problems, "read": st.Read(),
		}
		if st.Head != nil { // what is not known is not there
			v["seq"], v["size"], v["root"] = st.Head.Seq, st.Head.Size, fmt.Sprintf("%x", st.Head.Root)
		}
		if st.Blocks != nil {
			v["latest_block"], v["safe_block"], v["finalized_block"] = st.Blocks.Latest.Number, st.Blocks.Safe.Number, st.Blocks.Finalized.Number
		}
		if st.Gas > 0 {
			v["gas"] = st.Gas
		}
		for name, n := range map[string]*big.Int{"balance_wei": st.Balance, "fee_wei": st.Fee, "fee_ceiling_wei": st.Ceiling, "l1_fee_wei": st.L1Fee} {
			if n != nil {
				v[name] = n.String()
			}
		}
		return writeJSON(w, v)
	}
	var rows []string
	row := func(name, format string, args ...any) { rows = append(rows, name+"\t"+fmt.Sprintf(format, args...)) }
	row("network", "%s (chain %d)", st.Network, st.ChainID)
	for _, e := range st.Endpoints {
		if e.Reason == "" {
			row("endpoint", "%s", e.Name)
		} else {
			row("endpoint", "%s is set aside: %s", e.Name, e.Reason)
		}
	}
	if st.Agree == 1 {
		row("agreement", "one endpoint alone is believed")
	} else if st.Agree > 1 {
		row("agreement", "%d endpoints must agree", st.Agree)
	}
	if st.Blocks != nil {
		row("blocks", "latest %d, safe %d, finalized %d", st.Blocks.Latest.Number, st.Blocks.Safe.Number, st.Blocks.Finalized.Number)
	}
	if st.Contract != "" {
		row("contract", "%s", st.Contract)
	}
	switch {
	case !st.Read():
		row("NOTHING READ", "of the chain nothing is known, neither of the contract nor of the account: see PROBLEM")
	case st.Head == nil && st.Contract != "":
		row("newest anchor", "not known: see PROBLEM")
	case st.Head != nil && st.Head.Seq == 0:
		row("newest anchor", "none yet")
	case st.Head != nil:
		row("newest anchor", "%d, over %d entries of the log", st.Head.Seq, st.Head.Size)
	}
	if st.Account != "" {
		row("account", "%s", st.Account)
		row("may anchor", "%t", st.MayAnchor)
		if st.Admin {
			row("admin", "the account itself: its key must not be on a hub that means anything")
		}
	}
	if st.Balance != nil {
		row("balance", "%s ETH", etherText(st.Balance))
	}
	if st.Fee != nil {
		row("fee now", "up to %s gwei for a unit of gas, of which the next anchor is given %d", gweiText(st.Fee), st.Gas)
	}
	if st.Ceiling != nil {
		row("ceiling", "%s gwei", gweiText(st.Ceiling))
	}
	if st.L1Fee != nil && st.L1Fee.Sign() > 0 {
		row("chain below", "%s ETH for an anchor", etherText(st.L1Fee))
	}
	for _, p := range problems {
		row("PROBLEM", "%s", strings.ReplaceAll(p, "\n", "; "))
	}
	return writeTable(w, "WHAT\tHOW IT STANDS", rows)
}

// etherText writes wei as ETH, exactly.
func etherText(wei *big.Int) string {
	return new(big.Rat).SetFrac(wei, big.NewInt(1e18)).FloatString(18)
}

// gweiText writes wei as gwei, exactly.
func gweiText(wei *big.Int) string { return new(big.Rat).SetFrac(wei, big.NewInt(1e9)).FloatString(9) }
