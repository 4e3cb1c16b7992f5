// Statements: what was signed for each month of each contract, the newest first.
import { Area } from '../contracts/area';
import { useContractText } from '../text/contracts';
import StatementList from './statement-list';

export default function StatementsPage() {
  const t = useContractText();
  return (
    <Area here="statements" title={t.statements.title}>
      <StatementList />
    </Area>
  );
}
